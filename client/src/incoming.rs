//! A stream on its way to a consumer on this node, and the question which of the two has failed.

use anyhow::Context;
use ka_transport::{Block, StreamReader, TransportError};

/// A stream that this node receives. It remembers a failure of receiving, because the consumer's complaint
/// about that is no fault of this node.
pub(crate) struct IncomingStream {
    reader: StreamReader,
    is_broken: bool,
}

/// The failure of a stream, or of its consumer.
#[derive(Debug)]
pub(crate) enum StreamFailure {
    /// The stream broke off, or its end could not be told: the connection is at fault.
    Stream(anyhow::Error),
    /// The consumer failed: this node is at fault.
    Consumer(anyhow::Error),
}

impl IncomingStream {
    /// Returns the stream that `reader` receives.
    pub(crate) const fn new(reader: StreamReader) -> Self {
        Self {
            reader,
            is_broken: false,
        }
    }

    /// Returns the stream's name.
    pub(crate) fn name(&self) -> &str {
        self.reader.name().as_str()
    }

    /// Receives the next verified block; `None` at the end of the stream.
    ///
    /// # Errors
    /// The stream broke off.
    pub(crate) fn recv(&mut self) -> Result<Option<Block>, TransportError> {
        let received = self.reader.recv();
        self.is_broken |= received.is_err();
        received
    }

    /// Tells the server how the consumer ended, and returns the consumer's result.
    ///
    /// # Errors
    /// The consumer's failure. Or the stream's, if that was the cause or the server could not be told.
    pub(crate) fn finish<T, E>(self, consumed: Result<T, E>) -> Result<T, StreamFailure>
    where
        E: Into<anyhow::Error> + ToString,
    {
        let name = self.name().to_owned();
        match consumed {
            Ok(value) => match self.reader.finish(Ok(())) {
                Ok(()) => Ok(value),
                Err(error) => {
                    let ended = Err(error).with_context(|| format!("ending stream {name}"));
                    ended.map_err(StreamFailure::Stream)
                }
            },
            Err(error) => {
                let is_broken = self.is_broken;
                // If the connection failed, no server can be told.
                drop(self.reader.finish(Err(error.to_string())));
                Err(if is_broken {
                    StreamFailure::Stream(error.into())
                } else {
                    StreamFailure::Consumer(error.into())
                })
            }
        }
    }
}
