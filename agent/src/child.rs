//! The [reader](crate::reader) as a child process: how it is started, and its frames.

use crate::reader::protocol::Frame;
use prost::Message;
use std::io;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout, Command};

/// Largest frame that is believed, bytes.
const MAX_FRAME: usize = 1 << 20;

/// The command that starts a reader of the given library. It is killed when its [`Child`] is dropped, and not waited for.
pub fn command(library: Option<&Path>) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("reader");
    if let Some(library) = library {
        command.arg("--nvml-library").arg(library);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    // A Ctrl-C at the terminal is for the agent, which ends its reader itself.
    command.process_group(0);
    Ok(command)
}

pub fn spawn(mut command: Command) -> io::Result<(Child, Frames)> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("the reader has no standard output"))?;
    Ok((child, Frames { stdout, buffer: Vec::new() }))
}

/// What a reader writes.
#[derive(Debug)]
pub struct Frames {
    stdout: ChildStdout,
    buffer: Vec<u8>,
}

impl Frames {
    /// The next frame; None: the pipe is closed. Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.stdout.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

/// The first frame, if all of it is there.
fn take_frame(buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let mut rest = buffer.as_slice();
    let Ok(length) = prost::decode_length_delimiter(&mut rest) else {
        return if buffer.len() < 10 { Ok(None) } else { Err(io::Error::other("no length")) };
    };
    if length > MAX_FRAME {
        return Err(io::Error::other("frame too large"));
    }
    let end = buffer.len() - rest.len() + length;
    if rest.len() < length {
        return Ok(None);
    }
    let frame = Frame::decode(&rest[..length]).map_err(io::Error::other)?;
    buffer.drain(..end);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_however_they_are_cut() {
        let frames = [1, 300, 70_000].map(|driver_us| Frame { driver_us, lost: vec![3; 200], ..Frame::default() });
        let mut buffer = Vec::new();
        let mut got = Vec::new();
        for byte in frames.iter().flat_map(Message::encode_length_delimited_to_vec) {
            buffer.push(byte);
            got.extend(take_frame(&mut buffer).unwrap());
        }
        assert_eq!(got, frames);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(take_frame(&mut vec![0xff; 10]).is_err());
        assert!(take_frame(&mut vec![0xff, 0xff, 0xff, 0x0f]).is_err());
    }
}
