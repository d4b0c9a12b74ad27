//! The body of a response: streams a file with one piece in memory at a time.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use crate::catalog::Content;
use crate::http::places::Taking;

/// Bytes read at once. Large enough that reading costs little beside sending, small enough for hundreds of
/// transfers at once.
const PIECE: usize = 256 << 10;

/// Function that is called once, when the last byte was handed over.
type Finished = Box<dyn FnOnce() + Send>;

/// Body with the bytes of a range of a file.
pub(super) struct FileBody {
    content: Content,
    left: Range<u64>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    taking: Taking,
    finished: Option<Finished>,
}

impl FileBody {
    pub(super) fn new(content: Content, range: Range<u64>, taking: Taking, finished: Finished) -> Self {
        Self {
            content,
            left: range,
            reading: None,
            taking,
            finished: Some(finished),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let want = usize::try_from(self.left.end - self.left.start)
            .unwrap_or(PIECE)
            .min(PIECE);
        if self.content.is_in_memory() {
            return Poll::Ready(self.content.read_at(self.left.start, want));
        }
        let (content, start) = (&self.content, self.left.start);
        let reading = self.reading.get_or_insert_with(|| {
            let content = content.clone();
            tokio::task::spawn_blocking(move || content.read_at(start, want))
        });
        let read = std::task::ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(read.map_err(io::Error::other)?)
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.poll_piece(cx))?;
        if piece.is_empty() {
            let shorter = io::Error::other("the file became shorter while it was sent");
            return Poll::Ready(Some(Err(shorter)));
        }
        self.left.start += piece.len() as u64;
        self.taking.took(piece.len() as u64);
        if self.left.is_empty()
            && let Some(finished) = self.finished.take()
        {
            finished();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.end - self.left.start)
    }
}
