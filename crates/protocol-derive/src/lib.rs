//! `#[derive(Wire)]` for `tidelog-protocol`: the Rust struct is the schema.
//!
//! Fields are written in the order in which they stand. Every struct gets `Default` with Kafka's
//! defaults, and `Debug` without its secrets. A struct with `versions` is a whole message and gets `Message` besides `Wire`;
//! `#[message(..)]` stands for `#[derive(Clone, PartialEq, Wire)]` and `#[wire(..)]` on it.
//!
//! On the struct:
//!
//! | attribute | meaning |
//! |---|---|
//! | `versions = 3..=13` | the versions of the message; makes it a `Message` |
//! | `flexible = 9..` | versions with compact lengths and tags (KIP-482); none if left out |
//!
//! On a field:
//!
//! | attribute | meaning |
//! |---|---|
//! | `versions = 3..` | the versions that have the field; all if left out |
//! | `tag = 0` | a tagged field, present if its value is not the default |
//! | `nullable = 2..` | an `Option` that may be `None` in these versions only; in all if left out |
//! | `default = -1` | the value in versions without the field; `Default::default()` if left out |
//! | `ignorable` | a version without the field may lose its value; without it, encoding fails |
//! | `secret` | the value is never shown: passwords, keys, tokens, and what may be one |
//! | `records` | these `Bytes` are record batches |
//! | `json = "isKRaft"` | the name in Kafka's JSON, where it is not that of the field in camel case |
//!
//! ```text
//! #[message(versions = 0..=4, flexible = 4..)]
//! pub struct HeartbeatRequest {
//!     pub group_id: GroupId,
//!     pub generation_id: i32,
//!     pub member_id: Str,
//!     #[wire(versions = 3..)]
//!     pub group_instance_id: Option<Str>,
//! }
//! ```

mod attributes;
mod expand;

use proc_macro::TokenStream;
use quote::quote;

/// Marks a struct as a whole message of the versions that are named. See the crate's documentation.
#[proc_macro_attribute]
pub fn message(versions: TokenStream, item: TokenStream) -> TokenStream {
    let versions = proc_macro2::TokenStream::from(versions);
    let item = proc_macro2::TokenStream::from(item);
    quote! {
        #[derive(Clone, PartialEq, ::tidelog_protocol::Wire)]
        #[wire(#versions)]
        #item
    }
    .into()
}

/// Derives `Wire`, `Default`, and `Message` if the struct has versions. See the crate's
/// documentation.
#[proc_macro_derive(Wire, attributes(wire))]
pub fn derive_wire(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    attributes::Struct::parse(&input)
        .map(|schema| expand::expand(&schema))
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}
