//! Any bytes as what arrives on a connection: frames, with a header and a request in each.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tidelog_protocol::frame::next_frame;
use tidelog_protocol::{Reader, Request, RequestHeader, Writer};

const FRAME_LEN_MAX: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let mut buf = BytesMut::new();
    for piece in bytes.chunks(37) {
        buf.extend_from_slice(piece);
        loop {
            match next_frame(&mut buf, FRAME_LEN_MAX) {
                Ok(Some(frame)) => read(frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        // What has not arrived has no room yet.
        assert!(buf.capacity() <= 4 * (buf.len() + 16 * 1024));
    }
});

fn read(frame: bytes::Bytes) {
    let mut reader = Reader::new(frame.clone());
    let Ok(header) = RequestHeader::read(&mut reader) else {
        return;
    };
    let mut writer = Writer::contiguous();
    header.write(&mut writer).expect("a header that was read can be written");
    let written = writer.finish_contiguous().expect("it is all there");
    assert!(written.len() <= reader.position());
    let _ = Request::read_frame(frame);
}
