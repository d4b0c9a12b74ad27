//! Frames of the control connection on an asynchronous stream, both sides.
//!
//! Here: reading with limits on size and silence, writing in order. Not here: the meaning of the messages.
//! `ka_proto::control`, `docs/protocol.md` "Control frames".

use std::io;
use std::time::Duration;

use ka_proto::WireError;
use ka_proto::wire::{FRAME_PREFIX, frame_length};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Messages waiting for one peer. The largest burst is an order with its payload and some heartbeats; a peer
/// that lets this many pile up does not read.
pub(crate) const MAX_QUEUED_FRAMES: usize = 256;

/// The reason why a control connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("the connection was closed")]
    Closed,
    #[error("silent for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("its message took more than {} s", .0.as_secs())]
    Slow(Duration),
    #[error("{0}")]
    Wire(#[from] WireError),
}

/// Reads one frame's body. Not cancel-safe.
///
/// # Errors
/// [`ControlError::Silent`] when no byte comes for `silence`; [`ControlError::Closed`] at the end of the
/// stream, also in the middle of a frame.
pub(crate) async fn read_frame<R: AsyncRead + Unpin>(
    reader: &mut R,
    limit: usize,
    silence: Duration,
) -> Result<Vec<u8>, ControlError> {
    let length = read_length(reader, limit, silence).await?;
    read_body(reader, length, silence).await
}

/// Reads the length in front of a frame.
///
/// # Errors
/// As [`read_frame`].
pub(crate) async fn read_length<R: AsyncRead + Unpin>(
    reader: &mut R,
    limit: usize,
    silence: Duration,
) -> Result<usize, ControlError> {
    let mut prefix = [0; FRAME_PREFIX];
    read_alive(reader, &mut prefix, silence).await?;
    Ok(frame_length(prefix, limit)?)
}

/// Reads a frame's body, whose length is known to be allowed.
///
/// # Errors
/// As [`read_frame`].
pub(crate) async fn read_body<R: AsyncRead + Unpin>(
    reader: &mut R,
    length: usize,
    silence: Duration,
) -> Result<Vec<u8>, ControlError> {
    let mut body = vec![0; length];
    read_alive(reader, &mut body, silence).await?;
    Ok(body)
}

async fn read_alive<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: &mut [u8],
    silence: Duration,
) -> Result<(), ControlError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let read = timeout(silence, reader.read(&mut buffer[filled..])).await;
        match read.map_err(|_| ControlError::Silent(silence))? {
            Ok(0) => return Err(ControlError::Closed),
            Ok(count) => filled += count,
            // rustls reports a TCP end without close_notify this way: a killed process.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ControlError::Closed),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes encoded frames in order until the queue is closed, then closes the connection in good order.
///
/// # Errors
/// [`ControlError::Io`]; a peer that does not read is noticed by TCP_USER_TIMEOUT.
pub(crate) async fn write_frames<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> Result<(), ControlError> {
    while let Some(frame) = frames.recv().await {
        writer.write_all(&frame).await?;
        if frames.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await?;
    Ok(())
}

/// Like [`write_frames`] until `frames` is closed; one of `others` is written when none of `frames` waits.
///
/// # Errors
/// As [`write_frames`].
pub(crate) async fn write_frames_first<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut frames: mpsc::Receiver<Vec<u8>>,
    mut others: mpsc::Receiver<Vec<u8>>,
) -> Result<(), ControlError> {
    loop {
        let next = tokio::select! {
            biased;
            frame = frames.recv() => frame,
            Some(frame) = others.recv() => Some(frame),
        };
        let Some(frame) = next else { break };
        writer.write_all(&frame).await?;
        if frames.is_empty() && others.is_empty() {
            writer.flush().await?;
        }
    }
    writer.shutdown().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_run_has_to_say_goes_before_everything_else() {
        let (frames, queue) = mpsc::channel(8);
        let (others, other_queue) = mpsc::channel(8);
        for _ in 0..3 {
            others.try_send(b"o".to_vec()).unwrap();
            frames.try_send(b"f".to_vec()).unwrap();
        }
        let (mut near, mut far) = tokio::io::duplex(64);
        let writing = tokio::spawn(async move { write_frames_first(&mut near, queue, other_queue).await });
        let mut written = [0; 6];
        far.read_exact(&mut written).await.unwrap();
        assert_eq!(&written, b"fffooo");
        // The connection ends with its own messages, whatever else could come.
        drop(frames);
        writing.await.unwrap().unwrap();
        assert!(others.is_closed());
    }
}
