//! How many connections there are, and may be (KIP-402).
//!
//! A listener that finds too many holds the connection that has come, and takes no other, until there is room: in all, or on
//! this listener. The listener over which brokers reach each other does not wait for room in all, if there is another listener.
//! From one address too many are closed at once.

use std::collections::HashMap;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_metadata::configs::{BrokerConfig, ConnectionLimits};
use tidelog_types::Str;
use tokio::sync::Notify;

use crate::clock::real;
use crate::metrics::Traffic;

/// What the listeners of a role count together.
#[derive(Debug)]
pub(crate) struct ConnectionQuota {
    /// The listener that does not wait for room in all.
    exempt: Option<String>,
    traffic: Arc<Traffic>,
    state: Mutex<State>,
    /// There may be room.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    all: usize,
    by_listener: HashMap<Str, usize>,
    by_ip: HashMap<IpAddr, usize>,
}

#[derive(Debug)]
struct Limits {
    configured: ConnectionLimits,
    /// The hosts of the exceptions, by address.
    by_ip: HashMap<IpAddr, usize>,
}

impl Limits {
    /// Looks up the names of hosts, which may take a while.
    fn new(configured: ConnectionLimits) -> Self {
        let mut by_ip = HashMap::new();
        for (host, limit) in &configured.per_ip_overrides {
            match (host.as_str(), 0).to_socket_addrs() {
                Ok(addresses) => by_ip.extend(addresses.map(|address| (address.ip(), *limit))),
                Err(error) => tracing::warn!(
                    host, %error,
                    "a host of max.connections.per.ip.overrides has no address, and is passed over"
                ),
            }
        }
        Self { configured, by_ip }
    }
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Admitted {
    quota: Arc<ConnectionQuota>,
    listener: Str,
    ip: IpAddr,
}

impl ConnectionQuota {
    /// For the listeners of a role, of which there are so many.
    pub(crate) fn new(
        config: &BrokerConfig,
        limits: ConnectionLimits,
        listeners: usize,
        traffic: Arc<Traffic>,
    ) -> Arc<Self> {
        let between_brokers = config.inter_broker_listener();
        let between_brokers = between_brokers.map(|listener| listener.name.to_lowercase());
        Arc::new(Self {
            exempt: between_brokers.filter(|_| listeners > 1),
            traffic,
            state: Mutex::new(State {
                limits: Limits::new(limits),
                all: 0,
                by_listener: HashMap::new(),
                by_ip: HashMap::new(),
            }),
            changed: Notify::new(),
        })
    }

    /// Goes by other limits from now on. Connections that are too many already are not closed.
    pub(crate) fn configure(self: &Arc<Self>, limits: ConnectionLimits) {
        if self.state.lock().limits.configured == limits {
            return;
        }
        let quota = Arc::clone(self);
        let apply = move || {
            let limits = Limits::new(limits);
            quota.state.lock().limits = limits;
            quota.changed.notify_waiters();
        };
        // Whoever asks for this must not wait for the names of hosts.
        let thread = std::thread::Builder::new().name("tidelog-limits".into());
        if let Err(error) = thread.spawn(apply) {
            tracing::warn!(%error, "the bounds of connections stay as they were");
        }
    }

    /// Waits until there is room for a connection from `ip`; `None` if there are too many from there.
    pub(crate) async fn admit(self: &Arc<Self>, listener: &Str, ip: IpAddr) -> Option<Admitted> {
        let mut waits_since = None;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // What changes from now on is not missed.
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                if self.has_room(&state, listener) {
                    if let Some(since) = waits_since {
                        self.traffic.accepting_waited(real::now() - since);
                    }
                    if state.by_ip.get(&ip).copied().unwrap_or(0) >= state.limit_of(ip) {
                        self.traffic.connection_refused();
                        tracing::info!(%ip, limit = state.limit_of(ip), "a connection is refused: there are too many from this address");
                        return None;
                    }
                    state.all += 1;
                    *state.by_listener.entry(listener.clone()).or_default() += 1;
                    *state.by_ip.entry(ip).or_default() += 1;
                    return Some(Admitted {
                        quota: Arc::clone(self),
                        listener: listener.clone(),
                        ip,
                    });
                }
                if waits_since.is_none() {
                    waits_since = Some(real::now());
                    tracing::warn!(%listener, connections = state.all, "a listener waits: there are as many connections as there may be");
                }
            }
            changed.await;
        }
    }

    fn has_room(&self, state: &State, listener: &Str) -> bool {
        let name = listener.to_lowercase();
        let limits = &state.limits.configured;
        let here = state.by_listener.get(listener).copied().unwrap_or(0);
        let limit_here = limits.per_listener.get(&name);
        let is_exempt = self.exempt.as_ref() == Some(&name);
        limit_here.is_none_or(|limit| here < *limit) && (is_exempt || state.all < limits.all)
    }
}

impl State {
    fn limit_of(&self, ip: IpAddr) -> usize {
        let limits = &self.limits;
        limits
            .by_ip
            .get(&ip)
            .copied()
            .unwrap_or(limits.configured.per_ip)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut state = self.quota.state.lock();
        state.all -= 1;
        if let Some(count) = state.by_listener.get_mut(&self.listener) {
            *count -= 1;
        }
        if let Some(count) = state.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                state.by_ip.remove(&self.ip);
            }
        }
        drop(state);
        self.quota.changed.notify_waiters();
    }
}
