//! Users and their passwords, as SCRAM has them (KIP-554).

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use tidelog_protocol::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, UserName,
};
use tidelog_types::{ErrorCode, Str};

use crate::sasl::salted_password;
use crate::{Client, ClientError, ScramMechanism, Secret};

/// How many random bytes are mixed into a password.
const SALT_BYTES: usize = 32;
/// Kafka takes no more iterations.
const MAX_ITERATIONS: i32 = 16384;

/// What becomes of one credential of a user.
#[derive(Clone, Debug)]
pub enum ScramChange {
    /// The user has this password from now on. It does not leave the client: what the broker gets is what SCRAM makes of it.
    Set {
        /// The password.
        password: Secret,
        /// How often it is hashed, from 4096 to 16384.
        iterations: u32,
    },
    /// The user can no longer come in this way.
    Delete,
}

/// What became of each user, or is known of it.
pub type PerUser<T> = BTreeMap<Str, Result<T, ClientError>>;

impl Client {
    /// The credentials of these users, or of all: the number of iterations by mechanism. Passwords are not to be had. Tidelog's brokers of
    /// this version know no users, so that they are [`Unsupported`](ClientError::Unsupported), as are those of Kafka before 2.7.
    pub async fn describe_scram_users(
        &self,
        users: Option<&[Str]>,
    ) -> Result<PerUser<BTreeMap<ScramMechanism, i32>>, ClientError> {
        let names = |users: &[Str]| {
            let users = users.iter().cloned();
            users.map(|name| UserName { name }).collect()
        };
        let request = DescribeUserScramCredentialsRequest {
            users: users.map(names),
        };
        let answer = self.ask_any(&request).await?;
        let message = answer.error_message.as_ref();
        ClientError::check(answer.error_code, message, || "the users".to_owned())?;
        let results = answer.results.into_iter().map(|result| {
            let message = result.error_message.as_ref();
            let user = result.user;
            let checked = ClientError::check(result.error_code, message, || subject(&user));
            let infos = result.credential_infos.into_iter();
            let known = infos.filter_map(|info| {
                let mechanism = ScramMechanism::from_number(info.mechanism)?;
                Some((mechanism, info.iterations))
            });
            let known = known.collect();
            (user, checked.map(|()| known))
        });
        Ok(results.collect())
    }

    /// Sets and deletes credentials, by user and mechanism. For one user either all of it happens or nothing.
    ///
    /// ```no_run
    /// # async fn example(client: &tidelog_client::Client) -> Result<(), tidelog_client::ClientError> {
    /// use tidelog_client::{ScramChange, ScramMechanism};
    ///
    /// let change = ScramChange::Set { password: "correct horse".into(), iterations: 8192 };
    /// let changes = [(("alice".into(), ScramMechanism::Sha512), change)].into();
    /// for (user, done) in client.alter_scram_users(&changes).await? {
    ///     done?;
    ///     println!("{user} can log in");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn alter_scram_users(
        &self,
        changes: &BTreeMap<(Str, ScramMechanism), ScramChange>,
    ) -> Result<PerUser<()>, ClientError> {
        let users: BTreeSet<_> = changes.keys().map(|(user, _)| user.clone()).collect();
        let mut all = BTreeMap::<Str, AlterUserScramCredentialsRequest>::new();
        for ((user, mechanism), change) in changes {
            let request = all.entry(user.clone()).or_default();
            match change {
                ScramChange::Set {
                    password,
                    iterations,
                } => {
                    let upsertion = upsertion(user, *mechanism, password, *iterations)?;
                    request.upsertions.push(upsertion);
                }
                ScramChange::Delete => request.deletions.push(ScramCredentialDeletion {
                    name: user.clone(),
                    mechanism: mechanism.number(),
                }),
            }
        }
        let all = &all;
        self.settle(users, |users: BTreeSet<Str>| async move {
            let mut request = AlterUserScramCredentialsRequest::default();
            for user in &users {
                let part = all[user].clone();
                request.upsertions.extend(part.upsertions);
                request.deletions.extend(part.deletions);
            }
            let answer = self.controller().await?.send(&request).await?;
            let results = answer.results.into_iter().map(|result| {
                let message = result.error_message.as_ref();
                let user = result.user;
                let checked = ClientError::check(result.error_code, message, || subject(&user));
                (user, checked)
            });
            Ok(results.collect())
        })
        .await
    }
}

fn subject(user: &Str) -> String {
    format!("user {user}")
}

fn upsertion(
    user: &Str,
    mechanism: ScramMechanism,
    password: &Secret,
    iterations: u32,
) -> Result<ScramCredentialUpsertion, ClientError> {
    let refused = |message: String| ClientError::Refused {
        subject: subject(user),
        code: ErrorCode::UNACCEPTABLE_CREDENTIAL,
        message: Some(message.into()),
    };
    if password.reveal().is_empty() {
        return Err(refused("a password cannot be empty".to_owned()));
    }
    let mut salt = vec![0; SALT_BYTES];
    getrandom::fill(&mut salt)
        .map_err(|error| refused(format!("the system has no random bytes: {error}")))?;
    let in_message = i32::try_from(iterations)
        .ok()
        .filter(|it| *it <= MAX_ITERATIONS);
    let in_message = in_message.ok_or_else(|| {
        refused(format!(
            "{iterations} iterations are more than {MAX_ITERATIONS}"
        ))
    })?;
    // With none at all there is nothing to send; the broker says how many it wants.
    let salted = salted_password(mechanism, password, &salt, iterations.max(1));
    Ok(ScramCredentialUpsertion {
        name: user.clone(),
        mechanism: mechanism.number(),
        iterations: in_message,
        salt: salt.into(),
        salted_password: salted.into(),
    })
}
