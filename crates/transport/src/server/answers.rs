//! Long messages of nodes. The server reads only those that it asked for, and only so many bytes of them at
//! once.
//!
//! Every message that a node sends by itself is short. Its plan and its report may have a mebibyte, once for
//! each question. All connections together share a budget for these, so that no number of members can fill
//! the golden node's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ka_proto::WireError;
use ka_proto::control::{ToNode, ToServer};
use ka_proto::limits::{ANSWER_TIMEOUT, MAX_ANSWER_FRAME, MAX_ANSWERS_AT_ONCE, MAX_MESSAGE_FRAME};
use tokio::io::AsyncRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::control::{ControlError, read_body, read_length};

/// Unit of the budget: permits are counted in 32 bits.
const BUDGET_UNIT: usize = 1 << 10;

/// Bytes of answers that all connections together may have on their way in; clones are the same budget.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_ANSWERS_AT_ONCE / BUDGET_UNIT)))
    }
}

/// Questions to one node whose answers may be long; clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Questions(Arc<AtomicU32>);

impl Questions {
    /// Notes a message that will be sent.
    pub(super) fn note(&self, message: &ToNode) {
        if matches!(message, ToNode::Prepare(_) | ToNode::Finish) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The node holds a clone already, and reports it without being asked.
    pub(super) fn expect_report(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn take(&self) -> bool {
        let less = |open: u32| open.checked_sub(1);
        self.0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
            .is_ok()
    }
}

/// A message, and its share of the budget for as long as it waits.
#[derive(Debug)]
pub(super) struct ReceivedMessage {
    pub(super) message: ToServer,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

/// Reads a node's next message.
///
/// # Errors
/// It is longer than the question allows, took too long, or is no message; the connection broke, or was
/// silent for `silence`.
pub(super) async fn read_message<R: AsyncRead + Unpin>(
    reader: &mut R,
    questions: &Questions,
    budget: &Budget,
    silence: Duration,
) -> Result<ReceivedMessage, ControlError> {
    let length = read_length(reader, MAX_ANSWER_FRAME, silence).await?;
    let (body, share) = if length <= MAX_MESSAGE_FRAME {
        (read_body(reader, length, silence).await?, None)
    } else {
        if !questions.take() {
            let limit = MAX_MESSAGE_FRAME;
            return Err(WireError::FrameTooLong { length, limit }.into());
        }
        let units = u32::try_from(length.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
        let share = Arc::clone(&budget.0).acquire_many_owned(units).await;
        let body = timeout(ANSWER_TIMEOUT, read_body(reader, length, silence)).await;
        let body = body.map_err(|_| ControlError::Slow(ANSWER_TIMEOUT))??;
        (body, share.ok())
    };
    Ok(ReceivedMessage {
        message: ToServer::decode(&body)?,
        share,
    })
}

#[cfg(test)]
mod tests {
    use ka_proto::wire::Payload;
    use tokio::io::AsyncWriteExt;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(5);

    fn report(len: usize) -> Vec<u8> {
        ToServer::Report(Payload(vec![7; len])).encode().unwrap()
    }

    async fn sent(frames: &[Vec<u8>], questions: &Questions) -> Vec<Result<usize, String>> {
        let bytes = frames.concat();
        let mut reader = bytes.as_slice();
        let budget = Budget::default();
        let mut all = Vec::new();
        for _ in frames {
            let read = read_message(&mut reader, questions, &budget, SILENCE).await;
            all.push(match read {
                Ok(ReceivedMessage {
                    message: ToServer::Report(payload),
                    ..
                }) => Ok(payload.0.len()),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            });
        }
        all
    }

    #[tokio::test]
    async fn a_long_message_is_taken_once_for_each_question() {
        let questions = Questions::default();
        let read = sent(&[report(64 << 10), report(65 << 10)], &questions).await;
        assert_eq!(read[0], Ok(64 << 10));
        assert!(
            read[1].as_ref().unwrap_err().contains("at most 66560"),
            "{read:?}"
        );
        questions.note(&ToNode::Finish);
        questions.note(&ToNode::Ping(1));
        let read = sent(&[report(1 << 20), report(1 << 20)], &questions).await;
        assert_eq!(read[0], Ok(1 << 20));
        assert!(read[1].is_err(), "one question, two answers");
    }

    /// Slow ones wait in their sockets while the budget is used up, and go on when a share is given back.
    #[tokio::test]
    async fn all_connections_together_share_a_budget() {
        let (budget, questions) = (Budget::default(), Questions::default());
        let all = u32::try_from(MAX_ANSWERS_AT_ONCE / BUDGET_UNIT).unwrap();
        let held = Arc::clone(&budget.0).acquire_many_owned(all - 100).await.unwrap();
        questions.note(&ToNode::Finish);
        let (mut near, mut far) = tokio::io::duplex(1 << 16);
        let frame = report(1 << 20);
        let writing = tokio::spawn(async move { near.write_all(&frame).await });
        let reading = read_message(&mut far, &questions, &budget, SILENCE);
        tokio::pin!(reading);
        let early = timeout(Duration::from_millis(100), &mut reading).await;
        assert!(early.is_err(), "it was read beyond the budget");
        drop(held);
        assert!(reading.await.unwrap().share.is_some());
        writing.await.unwrap().unwrap();
    }
}
