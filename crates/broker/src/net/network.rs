//! A network within the process.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_types::Str;
use tokio::sync::Notify;

use super::memory::{self, Condition, MemoryStream, Wire};
use crate::clock::real;
use crate::net::transport::Transport;
use crate::peers::{Address, Connecting, Network};

/// What those are called that connect without a name.
const CLIENT: &str = "client";
/// Ports that are given out begin here, as they do where the system gives them out.
const FIRST_PORT: u16 = 49152;
/// How many connections are remembered before those that are over are looked for.
const WIRES_MIN: usize = 64;

/// A network within the process, over which clients reach brokers and brokers reach each other; no port is opened.
///
/// The listeners of a broker are reached at the same `host:port` that clients are told of, so that a client needs to know
/// nothing but how to open a stream. Each party has a name, which is that of a node of a cluster or one that a client
/// chooses. Between two names the network can be [cut](Self::cut), [slowed](Self::delay) and [healed](Self::heal); in all
/// that it behaves like a network with TCP: nothing is lost or reordered within a connection, what was sent while the
/// network was cut arrives later, and a connection is refused where nobody listens.
///
/// A clone is the same network.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// use tidelog_broker::MemoryNetwork;
///
/// let network = MemoryNetwork::new();
/// let error = network.connect("orders:9092").await.unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct MemoryNetwork(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told when a connection may have become possible that was not.
    healed: Notify,
}

#[derive(Default)]
struct State {
    /// Whoever listens or has listened at an address.
    places: HashMap<Address, Place>,
    /// Where the network is not as it should be, by who sends and who receives.
    faults: HashMap<(Str, Str), Condition>,
    /// Who is held up.
    paused: HashSet<Str>,
    connections: Vec<Connection>,
    /// How many connections there may be before the next search for those that are over.
    connections_checked: usize,
    ports_given: u16,
}

struct Place {
    /// The party whose it is.
    name: Str,
    door: Option<Arc<Door>>,
}

/// Where connections come in.
#[derive(Default)]
struct Door(Mutex<Entrance>);

enum Entrance {
    /// Nobody serves yet.
    Waiting(Vec<MemoryStream>),
    Open(Accept),
    Closed,
}

/// Called with every new connection.
type Accept = Box<dyn Fn(MemoryStream) + Send>;

struct Connection {
    /// Who opened it.
    from: Str,
    to: Str,
    wire: Wire,
}

/// An address at which a party listens, until it is dropped.
pub(crate) struct MemoryListener {
    network: MemoryNetwork,
    address: Address,
    door: Arc<Door>,
}

impl MemoryNetwork {
    /// A network in which nobody listens yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens a stream to whoever listens at `address`, a `host:port`. The error is of the kind `ConnectionRefused` where
    /// nobody does.
    pub async fn connect(&self, address: &str) -> io::Result<MemoryStream> {
        self.connect_as(CLIENT, address).await
    }

    /// The same by a party of that name, so that faults can be arranged for it.
    pub async fn connect_as(&self, name: &str, address: &str) -> io::Result<MemoryStream> {
        let malformed = || io::Error::new(io::ErrorKind::InvalidInput, "not of the form host:port");
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = Address {
            host: host.into(),
            port: port.parse().map_err(|_| malformed())?,
        };
        self.open(&name.into(), &address).await
    }

    /// Cuts the network between two parties: nothing arrives from either at the other, and no connection comes about.
    /// Neither side is told; what is sent arrives when the network is healed.
    pub fn cut(&self, a: &str, b: &str) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Cuts one way only: what the first sends does not arrive at the second.
    pub fn cut_one_way(&self, from: &str, to: &str) {
        self.change(from, to, |condition| condition.is_cut = true);
    }

    /// Has everything between two parties take that long, each way.
    pub fn delay(&self, a: &str, b: &str, delay: Duration) {
        self.change(a, b, |condition| condition.delay = delay);
        self.change(b, a, |condition| condition.delay = delay);
    }

    /// Ends what was arranged between two parties.
    pub fn heal(&self, a: &str, b: &str) {
        self.change(a, b, |condition| *condition = Condition::default());
        self.change(b, a, |condition| *condition = Condition::default());
    }

    /// Holds up one party: nothing arrives at it, and nothing that it sends arrives anywhere. To the others it is like a
    /// process that is stopped.
    pub fn pause(&self, name: &str) {
        let mut state = self.0.state.lock();
        state.paused.insert(name.into());
        state.apply();
    }

    /// Ends a [`pause`](Self::pause); what was sent meanwhile arrives.
    pub fn resume(&self, name: &str) {
        let mut state = self.0.state.lock();
        state.paused.remove(name);
        state.apply();
        drop(state);
        self.0.healed.notify_waiters();
    }

    /// Ends everything that was arranged.
    pub fn heal_all(&self) {
        let mut state = self.0.state.lock();
        state.faults.clear();
        state.paused.clear();
        state.apply();
        drop(state);
        self.0.healed.notify_waiters();
    }

    /// Breaks off the connections between two parties, whoever opened them. Both sides notice at once, what is under way is
    /// lost, and new connections can be opened.
    pub fn drop_connections(&self, a: &str, b: &str) {
        let state = self.0.state.lock();
        for connection in &state.connections {
            let (from, to) = (&*connection.from, &*connection.to);
            if (from, to) == (a, b) || (from, to) == (b, a) {
                connection.wire.reset();
            }
        }
    }

    fn change(&self, from: &str, to: &str, change: impl FnOnce(&mut Condition)) {
        let mut state = self.0.state.lock();
        let link = (Str::from(from), Str::from(to));
        let mut condition = state.faults.get(&link).copied().unwrap_or_default();
        change(&mut condition);
        if condition == Condition::default() {
            state.faults.remove(&link);
        } else {
            state.faults.insert(link, condition);
        }
        state.apply();
        drop(state);
        self.0.healed.notify_waiters();
    }

    /// Opens a stream, as soon as the network lets it through.
    async fn open(&self, name: &Str, address: &Address) -> io::Result<MemoryStream> {
        let mut has_travelled = false;
        loop {
            let mut healed = std::pin::pin!(self.0.healed.notified());
            healed.as_mut().enable();
            let round_trip = {
                let mut state = self.0.state.lock();
                let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let place = state.places.get(address).ok_or_else(refused)?;
                let (to, door) = (place.name.clone(), place.door.clone());
                let there = state.condition(name, &to);
                let back = state.condition(&to, name);
                if there.is_cut || back.is_cut {
                    None
                } else if !has_travelled && (there.delay + back.delay) > Duration::ZERO {
                    Some(there.delay + back.delay)
                } else {
                    let door = door.ok_or_else(refused)?;
                    let (ours, theirs, wire) = memory::pair(there, back);
                    state.remember(Connection {
                        from: name.clone(),
                        to,
                        wire,
                    });
                    drop(state);
                    return door.enter(theirs).map(|()| ours);
                }
            };
            match round_trip {
                Some(round_trip) => {
                    real::sleep(round_trip).await;
                    has_travelled = true;
                }
                None => healed.await,
            }
        }
    }

    /// Listens as the party `name`. Port 0 lets the network choose one.
    pub(crate) fn listen(&self, name: &Str, host: &Str, port: u16) -> io::Result<MemoryListener> {
        let mut state = self.0.state.lock();
        let address = Address {
            host: host.clone(),
            port: match port {
                0 => state.free_port(host)?,
                port => port,
            },
        };
        let is_taken = |place: &Place| place.door.is_some();
        if state.places.get(&address).is_some_and(is_taken) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let door = Arc::new(Door::default());
        let place = Place {
            name: name.clone(),
            door: Some(Arc::clone(&door)),
        };
        state.places.insert(address.clone(), place);
        Ok(MemoryListener {
            network: self.clone(),
            address,
            door,
        })
    }
}

impl State {
    fn condition(&self, from: &str, to: &str) -> Condition {
        if self.faults.is_empty() && self.paused.is_empty() {
            return Condition::default();
        }
        let link = (Str::from(from), Str::from(to));
        let mut condition = self.faults.get(&link).copied().unwrap_or_default();
        condition.is_cut |= self.paused.contains(from) || self.paused.contains(to);
        condition
    }

    /// Tells the connections what the network is like now.
    fn apply(&self) {
        for Connection { from, to, wire } in &self.connections {
            wire.set_conditions(self.condition(from, to), self.condition(to, from));
        }
    }

    fn remember(&mut self, connection: Connection) {
        if self.connections.len() >= self.connections_checked.max(WIRES_MIN) {
            self.connections
                .retain(|connection| connection.wire.is_open());
            self.connections_checked = self.connections.len() * 2;
        }
        self.connections.push(connection);
    }

    /// A port of a host that was never used.
    fn free_port(&mut self, host: &Str) -> io::Result<u16> {
        for _ in FIRST_PORT..=u16::MAX {
            let port = FIRST_PORT + self.ports_given;
            self.ports_given = (self.ports_given + 1) % (u16::MAX - FIRST_PORT);
            let address = Address {
                host: host.clone(),
                port,
            };
            if self
                .places
                .get(&address)
                .is_none_or(|place| place.door.is_none())
            {
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }
}

impl Default for Entrance {
    fn default() -> Self {
        Self::Waiting(Vec::new())
    }
}

impl Door {
    fn enter(&self, stream: MemoryStream) -> io::Result<()> {
        match &mut *self.0.lock() {
            Entrance::Waiting(waiting) => waiting.push(stream),
            Entrance::Open(accept) => accept(stream),
            Entrance::Closed => return Err(io::ErrorKind::ConnectionRefused.into()),
        }
        Ok(())
    }
}

impl MemoryListener {
    pub(crate) fn port(&self) -> u16 {
        self.address.port
    }

    /// Takes the connections that wait already, and all that will come. `accept` must not wait.
    pub(crate) fn serve(&self, accept: impl Fn(MemoryStream) + Send + 'static) {
        let mut entrance = self.door.0.lock();
        if let Entrance::Waiting(waiting) = &mut *entrance {
            waiting.drain(..).for_each(&accept);
        }
        *entrance = Entrance::Open(Box::new(accept));
    }
}

impl Drop for MemoryListener {
    fn drop(&mut self) {
        // Whoever looks for it finds nobody, where it was.
        if let Some(place) = self.network.0.state.lock().places.get_mut(&self.address) {
            place.door = None;
        }
        let entrance = std::mem::replace(&mut *self.door.0.lock(), Entrance::Closed);
        drop(entrance);
    }
}

/// The network as one party sees it.
#[derive(Clone, Debug)]
pub(crate) struct Party {
    pub(crate) network: MemoryNetwork,
    pub(crate) name: Str,
}

impl Network for Party {
    fn connect(&self, address: &Address) -> Connecting {
        let (party, address) = (self.clone(), address.clone());
        Box::pin(async move {
            let stream = party.network.open(&party.name, &address).await?;
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }
}

impl fmt::Debug for MemoryNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state.lock();
        let mut listening: Vec<_> = state
            .places
            .iter()
            .filter(|(_, place)| place.door.is_some())
            .map(|(address, _)| address.to_string())
            .collect();
        listening.sort();
        f.debug_struct("MemoryNetwork")
            .field("listening", &listening)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryListener")
            .field(&self.address.to_string())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Somebody who sends back what comes.
    fn echo(network: &MemoryNetwork, name: &str) -> MemoryListener {
        let name = Str::from(name);
        let listener = network.listen(&name, &name, 9092).unwrap();
        listener.serve(|stream| {
            tokio::spawn(async move {
                let (mut read, mut write) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        });
        listener
    }

    async fn exchange(stream: &mut MemoryStream) -> io::Result<()> {
        stream.write_all(b"hello").await?;
        let mut read = [0; 5];
        stream.read_exact(&mut read).await.map(|_| ())
    }

    #[tokio::test]
    async fn connections_wait_for_who_listens_and_does_not_serve_yet() {
        let network = MemoryNetwork::new();
        let name = Str::from("a");
        let listener = network.listen(&name, &name, 0).unwrap();
        let address = format!("a:{}", listener.port());
        let mut early = network.connect(&address).await.unwrap();
        early.write_all(b"early").await.unwrap();
        let (streams, mut accepted) = tokio::sync::mpsc::unbounded_channel();
        listener.serve(move |stream| streams.send(stream).unwrap());
        let mut read = [0; 5];
        let mut theirs = accepted.recv().await.unwrap();
        theirs.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"early");
        drop(listener);
        let refused = network.connect(&address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn an_address_has_one_listener_at_a_time() {
        let network = MemoryNetwork::new();
        let first = echo(&network, "a");
        let name = Str::from("a");
        let taken = network.listen(&name, &name, 9092).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        network.listen(&name, &name, 9092).unwrap();
        assert!(network.connect("a").await.is_err());
        assert!(network.connect("a:many").await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_stalls_and_a_gone_listener_behind_it_is_not_noticed() {
        let network = MemoryNetwork::new();
        let listener = echo(&network, "a");
        let mut open = network.connect_as("b", "a:9092").await.unwrap();
        exchange(&mut open).await.unwrap();
        network.cut("a", "b");
        assert!(timeout(HOUR, exchange(&mut open)).await.is_err());
        assert!(
            timeout(HOUR, network.connect_as("b", "a:9092"))
                .await
                .is_err()
        );
        let mut other = network.connect_as("c", "a:9092").await.unwrap();
        exchange(&mut other).await.unwrap();
        drop(listener);
        assert!(
            timeout(HOUR, network.connect_as("b", "a:9092"))
                .await
                .is_err()
        );
        let (connected, ()) = tokio::join!(network.connect_as("b", "a:9092"), async {
            network.heal("b", "a");
        });
        let error = connected.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_may_be_one_way() {
        let network = MemoryNetwork::new();
        let _listener = echo(&network, "a");
        let mut open = network.connect_as("b", "a:9092").await.unwrap();
        network.cut_one_way("a", "b");
        assert!(timeout(HOUR, exchange(&mut open)).await.is_err());
        network.heal_all();
        let mut read = [0; 5];
        open.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"hello");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_held_up_hears_and_is_heard_later() {
        let network = MemoryNetwork::new();
        let _listener = echo(&network, "a");
        let mut open = network.connect_as("b", "a:9092").await.unwrap();
        network.cut("a", "c");
        network.pause("a");
        assert!(timeout(HOUR, exchange(&mut open)).await.is_err());
        network.resume("a");
        let mut read = [0; 5];
        open.read_exact(&mut read).await.unwrap();
        // What was arranged apart from that is as it was.
        assert!(
            timeout(HOUR, network.connect_as("c", "a:9092"))
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_taken_each_way() {
        let network = MemoryNetwork::new();
        let _listener = echo(&network, "a");
        let delay = Duration::from_millis(100);
        network.delay("a", "b", delay);
        let began = Instant::now();
        let mut open = network.connect_as("b", "a:9092").await.unwrap();
        assert_eq!(began.elapsed(), delay * 2);
        exchange(&mut open).await.unwrap();
        assert_eq!(began.elapsed(), delay * 4);
    }

    #[tokio::test]
    async fn connections_can_be_broken_off() {
        let network = MemoryNetwork::new();
        let _listener = echo(&network, "a");
        let mut open = network.connect_as("b", "a:9092").await.unwrap();
        let mut other = network.connect_as("c", "a:9092").await.unwrap();
        network.drop_connections("a", "b");
        let error = exchange(&mut open).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        exchange(&mut other).await.unwrap();
        let mut again = network.connect_as("b", "a:9092").await.unwrap();
        exchange(&mut again).await.unwrap();
    }
}
