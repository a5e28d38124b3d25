//! Names that are made of a file's: `logs-{folder}`.

use std::path::Path;
use std::str::FromStr;

/// A text with fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Path,
    File,
    Stem,
    Folder,
    Host,
}

/// The fields by name.
const FIELDS: [(&str, Field); 5] = [
    ("path", Field::Path),
    ("file", Field::File),
    ("stem", Field::Stem),
    ("folder", Field::Folder),
    ("host", Field::Host),
];

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, field)) = rest.split_once('{') {
            let (name, after) = field.split_once('}').ok_or("a { without a } behind it")?;
            let field = FIELDS.iter().find(|(known, _)| *known == name);
            let (_, field) = field.ok_or_else(|| {
                let known = FIELDS.map(|(name, _)| format!("{{{name}}}"));
                format!("there is no {{{name}}}; there are {}", known.join(", "))
            })?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(*field));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self(parts))
    }
}

impl Template {
    /// The text for a file.
    pub(super) fn fill(&self, path: &Path, host: &str) -> String {
        let name = |name: Option<&std::ffi::OsStr>| {
            name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        };
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Field(Field::Path) => path.display().to_string(),
            Part::Field(Field::File) => name(path.file_name()),
            Part::Field(Field::Stem) => name(path.file_stem()),
            Part::Field(Field::Folder) => name(path.parent().and_then(Path::file_name)),
            Part::Field(Field::Host) => host.to_owned(),
        });
        parts.collect()
    }

    /// The name of a topic for a file: what no topic may have in its name becomes a dash.
    pub(super) fn topic(&self, path: &Path, host: &str) -> String {
        let may_have = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let text = self.fill(path, host);
        let legal = text.trim_start_matches('/').chars();
        legal.map(|c| if may_have(c) { c } else { '-' }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_filled() {
        let fill = |text: &str| {
            let template: Template = text.parse().unwrap();
            template.fill(Path::new("/var/log/shop/app.log"), "web-1")
        };
        assert_eq!(fill("plain"), "plain");
        assert_eq!(fill("{host}:{path}"), "web-1:/var/log/shop/app.log");
        assert_eq!(fill("a-{folder}.{stem} {file}"), "a-shop.app app.log");
        let wrong = |text: &str| text.parse::<Template>().unwrap_err();
        assert!(wrong("{what}").starts_with("there is no {what}; there are {path}"));
        assert_eq!(wrong("{path"), "a { without a } behind it");
    }

    #[test]
    fn topics_have_legal_names() {
        let template: Template = "{path}".parse().unwrap();
        let topic = template.topic(Path::new("/var/log/my shop/äpp.log"), "");
        assert_eq!(topic, "var-log-my-shop--pp.log");
    }
}
