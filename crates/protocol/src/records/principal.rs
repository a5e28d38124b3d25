//! Who a client is, as brokers tell the controller when they forward a request.

use tidelog_types::Str;

use crate::message;

versioned!(DefaultPrincipal);

/// A principal of Kafka's own kind (KIP-590). Kafka's schema is called `DefaultPrincipalData`.
#[message(versions = 0..=0, flexible = 0..)]
pub struct DefaultPrincipal {
    /// The type of the principal, such as `User`.
    pub r#type: Str,
    /// The name of the principal.
    pub name: Str,
    /// Whether the client showed a delegation token (KIP-48).
    pub token_authenticated: bool,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_version_stands_before_it() {
        let principal = DefaultPrincipal {
            r#type: "User".into(),
            name: "ann".into(),
            token_authenticated: false,
        };
        let bytes = principal.encode_versioned(0).unwrap();
        assert_eq!(bytes, &b"\0\0\x05User\x04ann\0\0"[..]);
        assert_eq!(DefaultPrincipal::decode_versioned(&bytes), Ok(principal));
        assert!(DefaultPrincipal::decode_versioned(&Bytes::from_static(&[0])).is_err());
    }
}
