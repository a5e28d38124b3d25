//! Reads `#[wire(..)]` off a struct and its fields.

use syn::meta::ParseNestedMeta;
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Expr, Fields, Ident, LitInt, LitStr, Result, Token, Type};

/// Versions from `min` to `max`, both included.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) min: i16,
    pub(crate) max: i16,
}

pub(crate) struct Struct {
    pub(crate) name: Ident,
    pub(crate) versions: Option<Range>,
    pub(crate) flexible: Option<Range>,
    pub(crate) fields: Vec<Field>,
}

pub(crate) struct Field {
    pub(crate) name: Ident,
    pub(crate) ty: Type,
    pub(crate) versions: Range,
    pub(crate) nullable: Option<Range>,
    pub(crate) tag: Option<u32>,
    pub(crate) default: Option<Expr>,
    pub(crate) ignorable: bool,
    pub(crate) secret: bool,
    pub(crate) records: bool,
    pub(crate) json: Option<String>,
}

impl Range {
    pub(crate) const ALL: Self = Self {
        min: 0,
        max: i16::MAX,
    };

    /// `3..`, `3..=13` or `..=12`.
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut range = Self::ALL;
        if input.peek(LitInt) {
            range.min = input.parse::<LitInt>()?.base10_parse()?;
        }
        if input.peek(Token![..=]) {
            input.parse::<Token![..=]>()?;
            range.max = input.parse::<LitInt>()?.base10_parse()?;
        } else {
            input.parse::<Token![..]>()?;
        }
        Ok(range)
    }
}

impl Struct {
    pub(crate) fn parse(input: &DeriveInput) -> Result<Self> {
        let Data::Struct(data) = &input.data else {
            return Err(Error::new(
                input.span(),
                "Wire can be derived for structs only",
            ));
        };
        let fields = match &data.fields {
            Fields::Named(fields) => fields
                .named
                .iter()
                .map(Field::parse)
                .collect::<Result<_>>()?,
            Fields::Unit => Vec::new(),
            Fields::Unnamed(fields) => {
                return Err(Error::new(
                    fields.span(),
                    "the fields of a message have names",
                ));
            }
        };
        let mut schema = Self {
            name: input.ident.clone(),
            versions: None,
            flexible: None,
            fields,
        };
        for attribute in input.attrs.iter().filter(|a| a.path().is_ident("wire")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("versions") {
                    schema.versions = Some(Range::parse(meta.value()?)?);
                } else if meta.path.is_ident("flexible") {
                    schema.flexible = Some(Range::parse(meta.value()?)?);
                } else {
                    return Err(meta.error("expected `versions` or `flexible`"));
                }
                Ok(())
            })?;
        }
        Ok(schema)
    }
}

impl Field {
    fn parse(field: &syn::Field) -> Result<Self> {
        let name = field
            .ident
            .clone()
            .ok_or_else(|| Error::new(field.span(), "a field has a name"))?;
        let mut parsed = Self {
            name,
            ty: field.ty.clone(),
            versions: Range::ALL,
            nullable: None,
            tag: None,
            default: None,
            ignorable: false,
            secret: false,
            records: false,
            json: None,
        };
        for attribute in field.attrs.iter().filter(|a| a.path().is_ident("wire")) {
            attribute.parse_nested_meta(|meta| parsed.attribute(&meta))?;
        }
        Ok(parsed)
    }

    fn attribute(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        if meta.path.is_ident("versions") {
            self.versions = Range::parse(meta.value()?)?;
        } else if meta.path.is_ident("nullable") {
            self.nullable = Some(Range::parse(meta.value()?)?);
        } else if meta.path.is_ident("tag") {
            self.tag = Some(meta.value()?.parse::<LitInt>()?.base10_parse()?);
        } else if meta.path.is_ident("default") {
            self.default = Some(meta.value()?.parse()?);
        } else if meta.path.is_ident("ignorable") {
            self.ignorable = true;
        } else if meta.path.is_ident("secret") {
            self.secret = true;
        } else if meta.path.is_ident("records") {
            self.records = true;
        } else if meta.path.is_ident("json") {
            self.json = Some(meta.value()?.parse::<LitStr>()?.value());
        } else {
            return Err(meta.error(
                "expected `versions`, `tag`, `nullable`, `default`, `ignorable`, `secret`, `records` or `json`",
            ));
        }
        Ok(())
    }
}
