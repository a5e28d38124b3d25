//! Turns a schema into the impls of `Wire`, `Default` and `Message`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::ext::IdentExt;

use crate::attributes::{Field, Range, Struct};

pub(crate) fn expand(schema: &Struct) -> TokenStream {
    let name = &schema.name;
    let rows = rows(schema);
    let encode_fields = rows.iter().map(|row| encode_row(name, row));
    let encode_tags = encode_tags(schema);
    let decode_fields = rows.iter().map(|row| decode_row(row));
    let decode_tags = decode_tags(schema);
    let names: Vec<_> = schema.fields.iter().map(|f| &f.name).collect();
    let locals = schema.fields.iter().map(local);
    let defaults = schema.fields.iter().map(default);
    let fields = schema.fields.iter().map(describe);
    let name_text = name.to_string();
    let message = message(schema);
    // The outermost struct finds out where reading has failed.
    let (inline, start, check) = match schema.versions {
        Some(_) => (
            TokenStream::new(),
            quote!(let start = reader.start();),
            quote!(reader.check_message(start, version, <Self as ::tidelog_protocol::Message>::SCHEMA)?;),
        ),
        // Into the loop over the elements of an array.
        None => (
            quote!(#[inline]),
            TokenStream::new(),
            quote!(reader.check()?;),
        ),
    };
    let shown = schema.fields.iter().map(|field| {
        let (name, name_text) = (&field.name, field.name.unraw().to_string());
        match field.secret {
            true => quote!(visit(#name_text, &::tidelog_protocol::Secret);),
            false => quote!(visit(#name_text, &self.#name);),
        }
    });
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
            ) {
                #(#encode_fields)*
                #encode_tags
            }

            fn decode(
                reader: &mut ::tidelog_protocol::Reader,
                version: ::tidelog_protocol::Version,
            ) -> Self {
                match <Self as ::tidelog_protocol::Wire>::try_decode(reader, version) {
                    ::core::result::Result::Ok(whole) => whole,
                    ::core::result::Result::Err(error) => {
                        reader.fail_again(error);
                        ::core::default::Default::default()
                    }
                }
            }

            #inline
            fn try_decode(
                reader: &mut ::tidelog_protocol::Reader,
                version: ::tidelog_protocol::Version,
            ) -> ::core::result::Result<Self, ::tidelog_protocol::DecodeError> {
                #start
                #(#decode_fields)*
                #decode_tags
                #check
                ::core::result::Result::Ok(Self { #(#names: #locals),* })
            }

            fn is_default(&self) -> bool {
                *self == Self::default()
            }
        }

        #[automatically_derived]
        impl ::tidelog_protocol::Fields for #name {
            fn fields(
                &self,
                visit: &mut dyn ::core::ops::FnMut(
                    &'static ::core::primitive::str,
                    &dyn ::tidelog_protocol::Show,
                ),
            ) {
                #(#shown)*
            }
        }

        #[automatically_derived]
        impl ::tidelog_protocol::Show for #name {
            fn show(&self, line: &mut ::tidelog_protocol::Line<'_>) -> ::core::fmt::Result {
                line.fields(self)
            }

            fn show_all(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::tidelog_protocol::debug(#name_text, self, f)
            }
        }

        #[automatically_derived]
        impl ::core::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                ::tidelog_protocol::debug(#name_text, self, f)
            }
        }

        #message
    }
}

/// Fields that are written and read at once: all of fixed length, and all there in the same newest
/// versions. Any other field is a row of its own.
struct Row<'a> {
    fields: Vec<&'a Field>,
    /// The versions that have all of the fields.
    versions: Range,
}

fn rows(schema: &Struct) -> Vec<Row<'_>> {
    let mut rows: Vec<Row<'_>> = Vec::new();
    for field in schema.fields.iter().filter(|field| field.tag.is_none()) {
        let joins = |row: &&mut Row<'_>| {
            let is_fixed =
                |field: &Field| fixed_len(field).is_some() && field.versions.max == i16::MAX;
            is_fixed(field) && row.fields.iter().all(|field| is_fixed(field))
        };
        match rows.last_mut().filter(joins) {
            Some(row) => {
                row.versions.min = row.versions.min.max(field.versions.min);
                row.fields.push(field);
            }
            None => rows.push(Row {
                fields: vec![field],
                versions: field.versions,
            }),
        }
    }
    rows
}

/// The length of types that implement `Fixed`.
fn fixed_len(field: &Field) -> Option<usize> {
    let syn::Type::Path(path) = &field.ty else {
        return None;
    };
    let name = &path.path.segments.last()?.ident;
    Some(match &*name.to_string() {
        "bool" | "i8" => 1,
        "i16" | "u16" | "ApiKey" | "ErrorCode" | "ProducerEpoch" => 2,
        "i32" | "u32" | "LeaderEpoch" | "NodeId" => 4,
        "i64" | "f64" | "Offset" | "ProducerId" | "Timestamp" => 8,
        "Uuid" => 16,
        _ => return None,
    })
}

/// The fields of a row with where they begin and how long they are, and how long the row is.
fn layout<'a>(row: &Row<'a>) -> (Vec<(&'a Field, usize, usize)>, usize) {
    let mut end = 0;
    let place = |field: &&'a Field| {
        let len = fixed_len(field).unwrap_or(0);
        let at = end;
        end += len;
        (*field, at, len)
    };
    let fields = row.fields.iter().map(place).collect();
    (fields, end)
}

fn encode_row(owner: &syn::Ident, row: &Row<'_>) -> TokenStream {
    let one_by_one = row.fields.iter().map(|field| encode_field(owner, field));
    if row.fields.len() == 1 {
        return quote!(#(#one_by_one)*);
    }
    let (fields, len) = layout(row);
    let parts = fields.iter().map(|(field, at, len)| {
        let name = &field.name;
        let end = at + len;
        quote! {
            row[#at..#end].copy_from_slice(&::tidelog_protocol::Fixed::<#len>::to_wire(self.#name));
        }
    });
    let at_once = quote! {
        let mut row = [0_u8; #len];
        #(#parts)*
        writer.put(row);
    };
    match contains(row.versions) {
        None => quote!({ #at_once }),
        Some(contains) => quote!(if #contains { #at_once } else { #(#one_by_one)* }),
    }
}

fn decode_row(row: &Row<'_>) -> TokenStream {
    if let [field] = &row.fields[..] {
        let (name, ty, value) = (local(field), &field.ty, decode_field(field));
        return quote!(let #name: #ty = #value;);
    }
    let (fields, len) = layout(row);
    let names = fields.iter().map(|(field, ..)| local(field));
    let types = fields.iter().map(|(field, ..)| &field.ty);
    let parts = fields.iter().map(|(field, at, len)| {
        let ty = &field.ty;
        quote! {
            <#ty as ::tidelog_protocol::Fixed<#len>>::from_wire(
                ::tidelog_protocol::part(&row, #at),
            )
        }
    });
    let at_once = quote! {
        let row: [u8; #len] = reader.take();
        (#(#parts),*)
    };
    let value = match contains(row.versions) {
        None => quote!({ #at_once }),
        Some(contains) => {
            let one_by_one = row.fields.iter().map(|field| decode_field(field));
            quote!(if #contains { #at_once } else { (#(#one_by_one),*) })
        }
    };
    quote!(let (#(#names),*): (#(#types),*) = #value;)
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
    let encode = encode_value(owner, field);
    match (contains(field.versions), field.ignorable) {
        (None, _) => encode,
        (Some(contains), true) => quote!(if #contains { #encode }),
        (Some(contains), false) => {
            let is_default = is_default(field, quote!(self.#name));
            quote! {
                if #contains {
                    #encode
                } else if !#is_default {
                    writer.fail(
                        ::tidelog_protocol::EncodeError::not_carried(version).in_field(#place),
                    );
                }
            }
        }
    }
}

/// A statement that writes the value of a field that the version has.
fn encode_value(owner: &syn::Ident, field: &Field) -> TokenStream {
    let Field { name, .. } = field;
    let plain = quote!(::tidelog_protocol::Wire::encode(&self.#name, writer, version););
    let Some(contains) = field.nullable.and_then(contains) else {
        return plain;
    };
    let place = place(owner, field);
    quote! {
        match &self.#name {
            value if #contains => ::tidelog_protocol::Wire::encode(value, writer, version),
            ::core::option::Option::Some(value) => {
                ::tidelog_protocol::Wire::encode(value, writer, version);
            }
            ::core::option::Option::None => {
                writer.fail(::tidelog_protocol::EncodeError::null(version).in_field(#place));
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
                writer.put_no_tags();
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
        quote!(!#is_default)
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
                    writer.fail(
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
        let name = &field.name;
        let value = match field.nullable {
            Some(_) => encode_value(&schema.name, field),
            None => {
                quote!(::tidelog_protocol::Wire::encode_tagged(&self.#name, writer, version))
            }
        };
        quote! {
            if #present {
                let mark = writer.begin_tag(&mut tags, #tag);
                #value;
                writer.end_tag(mark);
            }
        }
    });
    quote! {
        #(let #present = #tests;)*
        #(#losses)*
        if version.flexible {
            let count = 0 #(+ ::core::primitive::u32::from(#present))*;
            if count == 0 {
                writer.put_no_tags();
            } else {
                let mut tags = writer.begin_tags(count);
                #(#writes)*
                writer.end_tags(tags);
            }
        }
    }
}

/// An expression for a field that is not tagged.
fn decode_field(field: &Field) -> TokenStream {
    let decode = decode_value(field);
    let default = default(field);
    match contains(field.versions) {
        None => decode,
        Some(contains) => quote!(if #contains { #decode } else { #default }),
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
            ::core::option::Option::Some(#plain)
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
                reader.take_no_tags();
            }
        };
    }
    let defaults = schema.fields.iter().filter(|field| field.tag.is_some());
    let defaults = defaults.map(|field| {
        let (name, ty, default) = (local(field), &field.ty, default(field));
        quote!(let mut #name: #ty = #default;)
    });
    let arms = tagged.map(|(tag, field)| {
        let name = local(field);
        let value = decode_value(field);
        let guard = contains(field.versions).map(|contains| quote!(if #contains));
        quote!(#tag #guard => #name = #value,)
    });
    quote! {
        #(#defaults)*
        if version.flexible && reader.has_tags() {
            let mut tags = reader.take_tags();
            while let ::core::option::Option::Some(tag) = reader.take_tag(&mut tags) {
                match tag {
                    #(#arms)*
                    _ => reader.unknown_tag(&tags),
                }
                reader.leave_tag(&tags);
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
    match &field.default {
        Some(default) => quote!((#value == (#default))),
        None => quote!(::tidelog_protocol::Wire::is_default(&#value)),
    }
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
