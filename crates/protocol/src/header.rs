//! The headers before every request and response.

use tidelog_types::Str;

use crate::{ApiKey, DecodeError, DecodeErrorKind, EncodeError, Reader, Version, Wire, Writer};

/// What stands before every request.
///
/// ```text
/// api key i16 | api version i16 | correlation id i32 | client id: i16 length, text |
/// tagged fields, if flexible
/// ```
///
/// The length of the client id is never compact, not even in a flexible header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API that is called.
    pub api_key: ApiKey,
    /// The version of the request, and of the response.
    pub api_version: i16,
    /// A number by which the client finds the response.
    pub correlation_id: i32,
    /// What the client calls itself, or null.
    pub client_id: Option<Str>,
}

/// The text of a header is classic in every version.
const CLASSIC: Version = Version {
    number: 1,
    flexible: false,
};

impl RequestHeader {
    /// Reads a header.
    ///
    /// An API that is not known is an error, since nothing tells how the header goes on. A version
    /// that is not known is none here, so that an ApiVersions request of any version can be
    /// answered.
    pub fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let in_field = |field| move |e: DecodeError| e.in_field("RequestHeader", field);
        let start = reader.position();
        let api_key = ApiKey::new(reader.i16().map_err(in_field("api_key"))?);
        let api_version = reader.i16().map_err(in_field("api_version"))?;
        let correlation_id = reader.i32().map_err(in_field("correlation_id"))?;
        let Some(flexible) = api_key.has_flexible_request_header(api_version) else {
            let key = i32::from(api_key.code());
            let error = DecodeError::new(DecodeErrorKind::UnknownKey { key }, start);
            return Err(in_field("api_key")(error));
        };
        let client_id = Option::decode(reader, CLASSIC);
        let client_id = reader.checked(client_id).map_err(in_field("client_id"))?;
        if flexible {
            reader.skip_tags().map_err(in_field("tagged fields"))?;
        }
        Ok(Self {
            api_key,
            api_version,
            correlation_id,
            client_id,
        })
    }

    /// Writes the header that belongs to its API and version; an API that is not known gets the
    /// older header.
    pub fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.put_i16(self.api_key.code());
        writer.put_i16(self.api_version);
        writer.put_i32(self.correlation_id);
        self.client_id.encode(writer, CLASSIC);
        let written = writer.check();
        written.map_err(|e| e.in_field("RequestHeader", "client_id"))?;
        if self.api_key.has_flexible_request_header(self.api_version) == Some(true) {
            writer.put_no_tags();
        }
        Ok(())
    }
}

/// What stands before every response: the number by which the client finds the request, and tagged
/// fields if the version is flexible. ApiVersions responses never have the tagged fields, since the
/// client cannot know yet which version it gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseHeader {
    /// The number of the request.
    pub correlation_id: i32,
}

impl ResponseHeader {
    /// Reads the header of a response of `api_key` in `api_version`.
    pub fn read(
        reader: &mut Reader,
        api_key: ApiKey,
        api_version: i16,
    ) -> Result<Self, DecodeError> {
        let correlation_id = reader
            .i32()
            .map_err(|e| e.in_field("ResponseHeader", "correlation_id"))?;
        if api_key.has_flexible_response_header(api_version) {
            reader
                .skip_tags()
                .map_err(|e| e.in_field("ResponseHeader", "tagged fields"))?;
        }
        Ok(Self { correlation_id })
    }

    /// Writes the header of a response of `api_key` in `api_version`.
    pub fn write(&self, writer: &mut Writer, api_key: ApiKey, api_version: i16) {
        writer.put_i32(self.correlation_id);
        if api_key.has_flexible_response_header(api_version) {
            writer.put_no_tags();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_client_id_is_classic_even_in_a_flexible_header() {
        let header = RequestHeader {
            api_key: ApiKey::Produce,
            api_version: 9,
            correlation_id: 7,
            client_id: Some("ab".into()),
        };
        let mut writer = Writer::new();
        header.write(&mut writer).unwrap();
        let bytes = writer.finish_contiguous().unwrap();
        assert_eq!(bytes, &[0, 0, 0, 9, 0, 0, 0, 7, 0, 2, b'a', b'b', 0][..]);
        assert_eq!(RequestHeader::read(&mut Reader::new(bytes)), Ok(header));
    }

    #[test]
    fn an_api_versions_header_of_the_future_can_be_read() {
        let bytes = Bytes::from_static(&[0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0]);
        let header = RequestHeader::read(&mut Reader::new(bytes)).unwrap();
        assert_eq!(
            (header.api_key, header.api_version),
            (ApiKey::ApiVersions, 99)
        );
    }

    #[test]
    fn an_unknown_api_is_named() {
        let bytes = Bytes::from_static(&[0x7f, 0xff, 0, 0, 0, 0, 0, 7, 0xff, 0xff]);
        let error = RequestHeader::read(&mut Reader::new(bytes)).unwrap_err();
        assert_eq!(error.kind(), DecodeErrorKind::UnknownKey { key: 32767 });
        assert_eq!(error.field(), ("RequestHeader", "api_key"));
    }

    #[test]
    fn the_response_header_of_api_versions_is_never_flexible() {
        let write = |api_key, version| {
            let mut writer = Writer::new();
            ResponseHeader { correlation_id: 1 }.write(&mut writer, api_key, version);
            writer.len()
        };
        assert_eq!(write(ApiKey::ApiVersions, 3), 4);
        assert_eq!(write(ApiKey::Metadata, 8), 4);
        assert_eq!(write(ApiKey::Metadata, 9), 5);
    }
}
