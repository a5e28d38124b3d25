use std::collections::BTreeSet;

use tidelog_protocol::records::group::consumer::ConsumerGroupRegularExpressionValue;
use tidelog_types::{ErrorCode, Str, Timestamp, TopicName};

use super::{ConsumerGroup, Refusal};
use crate::group::context::Context;
use crate::group::history::Cause;
use crate::group::regex::compile;
use crate::group::{Effect, GroupRecord};

/// How long it takes at least from one look at all topics to the next.
const REFRESH_INTERVAL_MIN_MS: i64 = 10_000;

/// The topics that an expression matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct ResolvedRegex {
    pub(in crate::group) topics: BTreeSet<TopicName>,
    /// The version of the view in which they were looked for.
    pub(in crate::group) version: i64,
    pub(in crate::group) timestamp: Timestamp,
}

impl ResolvedRegex {
    pub(super) fn from_record(value: &ConsumerGroupRegularExpressionValue) -> Self {
        Self {
            topics: value.topics.iter().map(TopicName::detach).collect(),
            version: value.version,
            timestamp: value.timestamp,
        }
    }

    pub(super) fn to_record(&self) -> ConsumerGroupRegularExpressionValue {
        ConsumerGroupRegularExpressionValue {
            topics: self.topics.iter().cloned().collect(),
            version: self.version,
            timestamp: self.timestamp,
        }
    }
}

/// What a new expression of a member means for the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegexChange {
    /// The member subscribes as before.
    None,
    /// What the new expression matches has yet to be found out.
    Unresolved,
    /// What the member subscribes to is known.
    Resolved,
}

impl ConsumerGroup {
    /// Refuses an expression that nobody in the group uses yet and that cannot be read.
    pub(super) fn check_regex(&self, regex: Option<&Str>) -> Result<(), Refusal> {
        match regex {
            Some(regex) if !regex.is_empty() && !self.regex_members.contains_key(regex) => {
                compile(regex).map(|_| ()).map_err(|error| {
                    let message = format!("the expression {regex:?} cannot be read: {error}");
                    Refusal::new(ErrorCode::INVALID_REGULAR_EXPRESSION, message)
                })
            }
            _ => Ok(()),
        }
    }

    /// A member has subscribed by `new`, which its record says by now, and not by `old` any more.
    pub(super) fn regex_changed(
        &mut self,
        old: Option<&Str>,
        new: Option<&Str>,
        records: &mut Vec<GroupRecord>,
    ) -> RegexChange {
        if old == new {
            return RegexChange::None;
        }
        if let Some(old) = old {
            self.drop_regex_if_unused(old, records);
        }
        match new {
            Some(new) if !self.regexes.contains_key(new) => RegexChange::Unresolved,
            _ => RegexChange::Resolved,
        }
    }

    /// Forgets what an expression matches by which nobody subscribes.
    pub(super) fn drop_regex_if_unused(&mut self, regex: &Str, records: &mut Vec<GroupRecord>) {
        if self.regexes.contains_key(regex) && !self.regex_members.contains_key(regex) {
            let record = GroupRecord::ConsumerGroupRegex {
                group_id: self.id.clone(),
                regex: regex.detach(),
                value: None,
            };
            self.push(records, record);
        }
    }

    /// Has somebody find out what the expressions match, if that is due: there is a new expression, there are new topics, or
    /// the last time is long ago.
    pub(super) fn maybe_resolve_regexes(&mut self, cx: &mut Context<'_>) {
        if self.regex_members.is_empty() || self.is_resolving {
            return;
        }
        let last = self.regexes.values().next();
        let (version, age_ms) = match last {
            Some(last) => (last.version, cx.now.timestamp.millis_since(last.timestamp)),
            None => (i64::MIN, i64::MAX),
        };
        let is_due = self.regexes.len() != self.regex_members.len()
            || version < cx.new_topics_version
            || age_ms > cx.config.consumer_group_regex_refresh_interval_ms;
        if is_due && age_ms > REFRESH_INTERVAL_MIN_MS {
            self.is_resolving = true;
            cx.effects.push(Effect::ResolveRegexes {
                group_id: self.id.clone(),
                regexes: self.regex_members.keys().cloned().collect(),
            });
        }
    }

    /// Somebody has found out what the expressions match.
    pub(in crate::group) fn regexes_resolved(
        &mut self,
        cx: &mut Context<'_>,
        version: i64,
        resolved: Vec<(Str, BTreeSet<TopicName>)>,
    ) {
        self.is_resolving = false;
        let mut records = Vec::new();
        let mut causes = Vec::new();
        for (regex, topics) in resolved {
            // Whoever wanted to know may have left.
            if !self.regex_members.contains_key(&regex) {
                continue;
            }
            let nothing = BTreeSet::new();
            let former = self
                .regexes
                .get(&regex)
                .map_or(&nothing, |regex| &regex.topics);
            if *former != topics {
                causes.push(Cause::RegexResolved {
                    regex: regex.clone(),
                    added: topics.difference(former).cloned().collect(),
                    removed: former.difference(&topics).cloned().collect(),
                });
            }
            let resolved = ResolvedRegex {
                topics,
                version,
                timestamp: cx.now.timestamp,
            };
            let record = GroupRecord::ConsumerGroupRegex {
                group_id: self.id.clone(),
                regex,
                value: Some(resolved.to_record()),
            };
            self.push(&mut records, record);
        }
        self.needs_refresh |= !records.is_empty();
        self.update_epoch(cx, causes, &mut records);
        self.append(cx, records);
    }
}
