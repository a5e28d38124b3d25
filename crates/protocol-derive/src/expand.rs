//! Turns a schema into the impls of `Wire`, `Default` and `Message`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;

use crate::attributes::{Field, Range, Struct};

pub(crate) fn expand(schema: &Struct) -> TokenStream {
    let name = &schema.name;
    let encode_fields = schema
        .fields
        .iter()
        .filter(|f| f.tag.is_none())
        .map(|f| encode_field(name, f));
    let encode_tags = encode_tags(schema);
    let decode_fields = schema.fields.iter().map(|f| decode_field(name, f));
    let decode_tags = decode_tags(schema);
    let names: Vec<_> = schema.fields.iter().map(|f| &f.name).collect();
    let locals = schema.fields.iter().map(local);
    let defaults = schema.fields.iter().map(default);
    let fields = schema.fields.iter().map(describe);
    let name_text = name.to_string();
    let message = message(schema);
    quote! {
        #[automatically_derived]
        impl ::core::default::Default for #name {
            fn default() -> Self {
                Self { #(#names: #defaults,)* }
            }
        }

        #[automatically_derived]
        impl ::tidelog_protocol::Wire for #name {
            const KIND: ::tidelog_protocol::Kind =
                ::tidelog_protocol::Kind::Struct(&::tidelog_protocol::Schema {
                    name: #name_text,
                    fields: &[#(#fields),*],
                });

            fn encode(
                &self,
                writer: &mut ::tidelog_protocol::Writer,
                version: ::tidelog_protocol::Version,
            ) -> ::core::result::Result<(), ::tidelog_protocol::EncodeError> {
                #(#encode_fields)*
                #encode_tags
                ::core::result::Result::Ok(())
            }

            fn decode(
                reader: &mut ::tidelog_protocol::Reader,
                version: ::tidelog_protocol::Version,
            ) -> ::core::result::Result<Self, ::tidelog_protocol::DecodeError> {
                #(#decode_fields)*
                #decode_tags
                ::core::result::Result::Ok(Self { #(#names: #locals),* })
            }
        }

        #message
    }
}

fn message(schema: &Struct) -> TokenStream {
    let Some(versions) = schema.versions else {
        return TokenStream::new();
    };
    let name = &schema.name;
    let name_text = name.to_string();
    let versions = range(versions);
    let flexible = schema
        .flexible
        .map_or_else(|| quote!(::tidelog_protocol::VersionRange::NONE), range);
    quote! {
        #[automatically_derived]
        impl ::tidelog_protocol::Message for #name {
            const NAME: &'static str = #name_text;
            const VERSIONS: ::tidelog_protocol::VersionRange = #versions;
            const FLEXIBLE: ::tidelog_protocol::VersionRange = #flexible;
            const SCHEMA: &'static ::tidelog_protocol::Schema =
                match <Self as ::tidelog_protocol::Wire>::KIND {
                    ::tidelog_protocol::Kind::Struct(schema) => schema,
                    _ => ::core::unreachable!(),
                };
        }
    }
}

/// The entry of a field in the `Schema`.
fn describe(field: &Field) -> TokenStream {
    let name = field.name.unraw().to_string();
    let ty = &field.ty;
    let versions = range(field.versions);
    let nullable = range(field.nullable.unwrap_or(Range::ALL));
    let tag = field.tag.map_or_else(
        || quote!(::core::option::Option::None),
        |tag| quote!(::core::option::Option::Some(#tag)),
    );
    let json = field.json.clone().unwrap_or_else(|| camel_case(&name));
    let Field {
        ignorable, secret, ..
    } = field;
    let records = field.records.then(|| quote!(.holding_records()));
    quote! {
        ::tidelog_protocol::Field {
            name: #name,
            json: #json,
            versions: #versions,
            nullable: #nullable,
            tag: #tag,
            ignorable: #ignorable,
            secret: #secret,
            kind: <#ty as ::tidelog_protocol::Wire>::KIND #records,
        }
    }
}

/// `throttle_time_ms` is `throttleTimeMs`, and `enable_2pc` is `enable2Pc`.
fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut capital = false;
    for c in name.chars() {
        match c {
            '_' => capital = true,
            c if capital && c.is_ascii_alphabetic() => {
                camel.push(c.to_ascii_uppercase());
                capital = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

fn encode_field(owner: &syn::Ident, field: &Field) -> TokenStream {
    let Field { name, .. } = field;
    let place = place(owner, field);
    let value = encode_value(field);
    let encode = quote!(#value.map_err(|error| error.in_field(#place))?;);
    match (contains(field.versions), field.ignorable) {
        (None, _) => encode,
        (Some(contains), true) => quote!(if #contains { #encode }),
        (Some(contains), false) => {
            let is_default = is_default(field, quote!(self.#name));
            quote! {
                if #contains {
                    #encode
                } else if !(#is_default) {
                    return ::core::result::Result::Err(
                        ::tidelog_protocol::EncodeError::not_carried(version).in_field(#place),
                    );
                }
            }
        }
    }
}

/// An expression that writes the value of a field that the version has.
fn encode_value(field: &Field) -> TokenStream {
    let Field { name, .. } = field;
    let plain = quote!(::tidelog_protocol::Wire::encode(&self.#name, writer, version));
    let Some(contains) = field.nullable.and_then(contains) else {
        return plain;
    };
    quote! {
        match &self.#name {
            value if #contains => ::tidelog_protocol::Wire::encode(value, writer, version),
            ::core::option::Option::Some(value) => {
                ::tidelog_protocol::Wire::encode(value, writer, version)
            }
            ::core::option::Option::None => {
                ::core::result::Result::Err(::tidelog_protocol::EncodeError::null(version))
            }
        }
    }
}

/// Tagged fields: first those that are there are counted, then written. In a version without them,
/// what must not be lost is an error.
fn encode_tags(schema: &Struct) -> TokenStream {
    let mut tagged: Vec<_> = schema
        .fields
        .iter()
        .filter_map(|f| Some((f.tag?, f)))
        .collect();
    tagged.sort_by_key(|(tag, _)| *tag);
    if tagged.is_empty() {
        return quote! {
            if version.flexible {
                let tags = writer.begin_tags(0);
                writer.end_tags(tags);
            }
        };
    }
    let present: Vec<_> = tagged
        .iter()
        .map(|(tag, _)| format_ident!("has_tag_{tag}"))
        .collect();
    let tests = tagged.iter().map(|(_, field)| {
        let name = &field.name;
        let is_default = is_default(field, quote!(self.#name));
        quote!(!(#is_default))
    });
    let losses = tagged.iter().zip(&present).map(|((_, field), present)| {
        let place = place(&schema.name, field);
        let carried = contains(field.versions).map_or_else(
            || quote!(version.flexible),
            |c| quote!((version.flexible && #c)),
        );
        let loss = if field.ignorable {
            TokenStream::new()
        } else {
            quote! {
                if #present && !#carried {
                    return ::core::result::Result::Err(
                        ::tidelog_protocol::EncodeError::not_carried(version).in_field(#place),
                    );
                }
            }
        };
        quote! {
            #loss
            let #present = #present && #carried;
        }
    });
    let writes = tagged.iter().zip(&present).map(|((tag, field), present)| {
        let place = place(&schema.name, field);
        let name = &field.name;
        let value = match field.nullable {
            Some(_) => encode_value(field),
            None => {
                quote!(::tidelog_protocol::Wire::encode_tagged(&self.#name, writer, version))
            }
        };
        quote! {
            if #present {
                writer
                    .put_tag(&mut tags, #tag, |writer| #value)
                    .map_err(|error| error.in_field(#place))?;
            }
        }
    });
    quote! {
        #(let #present = #tests;)*
        #(#losses)*
        if version.flexible {
            let mut tags = writer.begin_tags(0 #(+ ::core::primitive::u32::from(#present))*);
            #(#writes)*
            writer.end_tags(tags);
        }
    }
}

fn decode_field(owner: &syn::Ident, field: &Field) -> TokenStream {
    let ty = &field.ty;
    let name = local(field);
    let default = default(field);
    if field.tag.is_some() {
        return quote!(let mut #name: #ty = #default;);
    }
    let place = place(owner, field);
    let value = decode_value(field);
    let decode = quote!(#value.map_err(|error| error.in_field(#place))?);
    match contains(field.versions) {
        None => quote!(let #name: #ty = #decode;),
        Some(contains) => quote!(let #name: #ty = if #contains { #decode } else { #default };),
    }
}

/// An expression that reads the value of a field that the version has.
fn decode_value(field: &Field) -> TokenStream {
    let plain = quote!(::tidelog_protocol::Wire::decode(reader, version));
    let Some(contains) = field.nullable.and_then(contains) else {
        return plain;
    };
    quote! {
        if #contains {
            #plain
        } else {
            #plain.map(::core::option::Option::Some)
        }
    }
}

fn decode_tags(schema: &Struct) -> TokenStream {
    let mut tagged = schema
        .fields
        .iter()
        .filter_map(|f| Some((f.tag?, f)))
        .peekable();
    if tagged.peek().is_none() {
        return quote! {
            if version.flexible {
                reader.skip_tags()?;
            }
        };
    }
    let arms = tagged.map(|(tag, field)| {
        let name = local(field);
        let place = place(&schema.name, field);
        let value = decode_value(field);
        let guard = contains(field.versions).map(|contains| quote!(if #contains));
        quote! {
            ::core::option::Option::Some(#tag) #guard => {
                #name = #value.map_err(|error| error.in_field(#place))?;
            }
        }
    });
    quote! {
        if version.flexible {
            let mut tags = reader.begin_tags()?;
            loop {
                match reader.next_tag(&mut tags)? {
                    ::core::option::Option::None => break,
                    #(#arms)*
                    ::core::option::Option::Some(_) => reader.unknown_tag(&tags)?,
                }
                reader.end_tag(&tags)?;
            }
        }
    }
}

/// The variable into which a field is read. It must not hide `reader` or `version`, after which
/// fields may be named.
fn local(field: &Field) -> syn::Ident {
    format_ident!("field_{}", field.name.unraw())
}

fn default(field: &Field) -> TokenStream {
    field.default.as_ref().map_or_else(
        || quote!(::core::default::Default::default()),
        |default| quote!(#default),
    )
}

fn is_default(field: &Field, value: TokenStream) -> TokenStream {
    let ty = &field.ty;
    let default = field.default.as_ref().map_or_else(
        || quote!(<#ty as ::core::default::Default>::default()),
        |d| quote!((#d)),
    );
    quote!(#value == #default)
}

/// What an error in the field is told about where it is.
fn place(owner: &syn::Ident, field: &Field) -> TokenStream {
    let owner = owner.to_string();
    let name = field.name.unraw().to_string();
    quote!(#owner, #name)
}

/// A test whether the range contains the version; `None` if every version is in it.
fn contains(range: Range) -> Option<TokenStream> {
    let Range { min, max } = range;
    match (min, max) {
        (0, i16::MAX) => None,
        _ if min == max => Some(quote!((version.number == #min))),
        (_, i16::MAX) => Some(quote!((version.number >= #min))),
        (0, _) => Some(quote!((version.number <= #max))),
        _ => Some(quote!((version.number >= #min && version.number <= #max))),
    }
}

fn range(range: Range) -> TokenStream {
    let Range { min, max } = range;
    quote!(::tidelog_protocol::VersionRange::new(#min, #max))
}
