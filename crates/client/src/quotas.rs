//! How much clients may ask of a cluster (KIP-546).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidelog_protocol::messages::alter_client_quotas::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use tidelog_protocol::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest,
};
use tidelog_types::Str;

use crate::{Client, ClientError};

/// The type of entity that is a user.
const USER: Str = Str::from_static("user");
/// The type of entity that is a client id.
const CLIENT_ID: Str = Str::from_static("client-id");
/// The type of entity that is an address (KIP-612).
const IP: Str = Str::from_static("ip");

/// Whose quotas: a user, a client id, both together, or an address; each by its name, or `None` for all that have none of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaEntity {
    /// Names by type.
    pub parts: BTreeMap<Str, Option<Str>>,
}

impl QuotaEntity {
    /// A user by its name, without `User:`.
    #[must_use]
    pub fn user(self, name: Option<Str>) -> Self {
        self.part(USER, name)
    }

    /// Clients by their `client.id`.
    #[must_use]
    pub fn client_id(self, name: Option<Str>) -> Self {
        self.part(CLIENT_ID, name)
    }

    /// Clients by their address.
    #[must_use]
    pub fn ip(self, address: Option<Str>) -> Self {
        self.part(IP, address)
    }

    fn part(mut self, kind: Str, name: Option<Str>) -> Self {
        self.parts.insert(kind, name);
        self
    }
}

impl fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The user first, as it is read.
        for (at, (kind, name)) in self.parts.iter().rev().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            match name {
                Some(name) => write!(f, "{comma}{kind} {name}")?,
                None => write!(f, "{comma}default {kind}")?,
            }
        }
        Ok(())
    }
}

/// Which names of a type fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaMatch {
    /// This one.
    Name(Str),
    /// The default.
    Default,
    /// Any, and the default.
    Any,
}

/// What entities have to be like. Without parts, all fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaFilter {
    /// What fits, by type: `user`, `client-id` or `ip`.
    pub parts: BTreeMap<Str, QuotaMatch>,
    /// Whether entities have to have these types only.
    pub strict: bool,
}

/// Quotas by name, such as `producer_byte_rate` in bytes a second.
pub type Quotas = BTreeMap<Str, f64>;

impl Client {
    /// The quotas of the entities that fit a filter. Tidelog's brokers of this version know no quotas, so that they are
    /// [`Unsupported`](ClientError::Unsupported), as are those of Kafka before 2.6.
    ///
    /// ```no_run
    /// # async fn example(client: &tidelog_client::Client) -> Result<(), tidelog_client::ClientError> {
    /// use tidelog_client::QuotaFilter;
    ///
    /// for (entity, quotas) in client.describe_client_quotas(&QuotaFilter::default()).await? {
    ///     println!("{entity}: {quotas:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn describe_client_quotas(
        &self,
        filter: &QuotaFilter,
    ) -> Result<BTreeMap<QuotaEntity, Quotas>, ClientError> {
        let components = filter.parts.iter().map(|(kind, wanted)| {
            let (match_type, name) = match wanted {
                QuotaMatch::Name(name) => (0, Some(name.clone())),
                QuotaMatch::Default => (1, None),
                QuotaMatch::Any => (2, None),
            };
            ComponentData {
                entity_type: kind.clone(),
                match_type,
                r#match: name,
            }
        });
        let request = DescribeClientQuotasRequest {
            components: components.collect(),
            strict: filter.strict,
        };
        let answer = self.ask_any(&request).await?;
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || "the quotas".to_owned())?;
        let entries = answer.entries.unwrap_or_default().into_iter();
        Ok(entries
            .map(|entry| {
                let quotas = entry.values.into_iter().map(|it| (it.key, it.value));
                (entity(entry.entity), quotas.collect())
            })
            .collect())
    }

    /// Sets quotas, or with `None` takes them back; with `validate_only` it says whether that would succeed. What becomes of one
    /// entity does not depend on another.
    pub async fn alter_client_quotas(
        &self,
        changes: &BTreeMap<QuotaEntity, BTreeMap<Str, Option<f64>>>,
        validate_only: bool,
    ) -> Result<BTreeMap<QuotaEntity, Result<(), ClientError>>, ClientError> {
        let entities = changes.keys().cloned().collect();
        self.settle(entities, |entities: BTreeSet<QuotaEntity>| async move {
            let entries = entities.into_iter().map(|entity| {
                let ops = changes[&entity].iter().map(|(key, value)| OpData {
                    key: key.clone(),
                    value: value.unwrap_or_default(),
                    remove: value.is_none(),
                });
                let ops = ops.collect();
                let parts = entity.parts.into_iter();
                let parts = parts.map(|(entity_type, entity_name)| EntityData {
                    entity_type,
                    entity_name,
                });
                EntryData {
                    entity: parts.collect(),
                    ops,
                }
            });
            let request = AlterClientQuotasRequest {
                entries: entries.collect(),
                validate_only,
            };
            let answer = self.controller().await?.send(&request).await?;
            let results = answer.entries.into_iter().map(|result| {
                let entity = entity(result.entity);
                let message = result.error_message.as_ref();
                let checked = ClientError::check(result.error_code, message, || entity.to_string());
                (entity, checked)
            });
            Ok(results.collect())
        })
        .await
    }
}

fn entity(parts: Vec<EntityData>) -> QuotaEntity {
    let parts = parts.into_iter();
    QuotaEntity {
        parts: parts.map(|it| (it.entity_type, it.entity_name)).collect(),
    }
}
