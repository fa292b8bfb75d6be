use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::fleet::Reservation;

fn subnet(net: &str, pool: (&str, &str)) -> Subnet {
    Subnet {
        net: net.parse().unwrap(),
        pools: vec![pool.0.parse().unwrap()..=pool.1.parse().unwrap()],
        reservations: Vec::new(),
        routers: vec![Ipv4Addr::new(10, 0, 0, 1)],
        dns: vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3)],
        ntp: vec![Ipv4Addr::new(10, 0, 0, 4)],
        domain: Some("example.org".into()),
        search: vec!["example.org".into(), "lab.example.org".into()],
        routes: vec![("10.8.0.0/16".parse().unwrap(), Ipv4Addr::new(10, 0, 0, 9))],
        times: LeaseTimes::of(Duration::from_secs(3600)),
    }
}

fn leases() -> Leases {
    Leases::new(subnet("10.0.0.0/24", ("10.0.0.100", "10.0.0.102")))
}

fn mac(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, number])
}

fn ask(number: u8) -> LeaseRequest<'static> {
    let (client, mac) = (ClientId::Mac(mac(number)), mac(number));
    LeaseRequest { client, mac, wanted: None, hostname: None, own: None, is_known: true }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn nobody(_: Ipv4Addr) -> bool {
    false
}

fn offered(leases: &mut Leases, ask: &LeaseRequest<'_>, now: i64) -> Option<u8> {
    leases.offer(ask, at(now), nobody).map(|offer| offer.address.octets()[3])
}

fn take(leases: &mut Leases, number: u8, last: u8, how: RequestState, now: i64) -> RequestOutcome {
    let times = leases.subnet().times;
    leases.request(&ask(number), ip(last), how, times, at(now), nobody)
}

fn is_granted(outcome: &RequestOutcome) -> bool {
    matches!(outcome, RequestOutcome::Granted(lease) if lease.held == LeaseState::Bound)
}

#[test]
fn each_client_gets_an_address_of_its_own_until_there_are_none() {
    let mut leases = leases();
    assert_eq!([1, 2, 3].map(|client| offered(&mut leases, &ask(client), 0)), [Some(100), Some(101), Some(102)]);
    assert_eq!(offered(&mut leases, &ask(4), 0), None);
    assert_eq!(offered(&mut leases, &ask(2), 30), Some(101), "the same again");
    assert!(is_granted(&take(&mut leases, 2, 101, RequestState::Selecting, 31)));
    assert_eq!(offered(&mut leases, &ask(4), 61), Some(100), "an offer that was not accepted is free after a minute");
    assert_eq!(offered(&mut leases, &ask(2), 5000), Some(101), "a client that returns gets its address");
}

#[test]
fn the_address_that_was_free_longest_is_given_first() {
    let mut leases = leases();
    for (client, last, now) in [(1, 100, 20), (2, 101, 0), (3, 102, 10)] {
        offered(&mut leases, &ask(client), now);
        assert!(is_granted(&take(&mut leases, client, last, RequestState::Selecting, now)), "{last}");
    }
    assert_eq!(offered(&mut leases, &ask(4), 10_000), Some(101));
    assert_eq!(
        take(&mut leases, 2, 101, RequestState::Holding, 10_001),
        RequestOutcome::Refused,
        "it is offered to another"
    );
}

#[test]
fn a_reserved_address_is_offered_to_its_client_only() {
    let mut subnet = subnet("10.0.0.0/24", ("10.0.0.100", "10.0.0.102"));
    let reservation = |who, last| Reservation { who, address: ip(last), hostname: Some("kept".into()) };
    subnet.reservations =
        vec![reservation(Reserved::Mac(mac(1)), 100), reservation(Reserved::Client(Box::new(*b"\0node")), 50)];
    let mut leases = Leases::new(subnet);
    assert_eq!(offered(&mut leases, &ask(9), 0), Some(101));
    assert_eq!(offered(&mut leases, &ask(1), 0), Some(100));
    let id = ClientId::Id(Box::new(*b"\0node"));
    let node = LeaseRequest { client: leases.lease_owner(id.clone(), mac(7), None), ..ask(7) };
    assert_eq!(offered(&mut leases, &node, 0), Some(50));
    assert_eq!(take(&mut leases, 9, 100, RequestState::Holding, 0), RequestOutcome::Refused);
    let RequestOutcome::Granted(lease) = take(&mut leases, 1, 100, RequestState::Selecting, 0) else {
        panic!("granted")
    };
    assert_eq!(lease.hostname.as_deref(), Some("kept"));
    assert_eq!(
        take(&mut leases, 1, 102, RequestState::Holding, 0),
        RequestOutcome::Refused,
        "it is to move to its own"
    );
    // The host's operating system sends another client identifier, and has the same reservation.
    let system = leases.lease_owner(ClientId::Id(Box::new([255, 1, 2, 3])), mac(1), None);
    assert_eq!(system, ClientId::Mac(mac(1)));
    // The address in a host's spec is reserved as well.
    let host = LeaseRequest { own: Some(ip(60)), ..ask(5) };
    assert_eq!(offered(&mut leases, &host, 0), Some(60));
    assert_eq!(leases.offer(&ask(6), at(0), |address| address == ip(102)), None, "102 is a host's, and none is left");
}

#[test]
fn an_address_in_use_is_not_offered() {
    let mut leases = leases();
    offered(&mut leases, &ask(1), 0);
    leases.mark_in_use(ip(100), at(0));
    assert_eq!(offered(&mut leases, &ask(1), 1), Some(101));
    assert!(!leases.offer(&ask(1), at(1), nobody).unwrap().verified_free);
    leases.mark_free(ip(101));
    assert!(leases.offer(&ask(1), at(1), nobody).unwrap().verified_free);
    assert!(is_granted(&take(&mut leases, 1, 101, RequestState::Selecting, 2)));
    let kept = leases.decline(&ClientId::Mac(mac(1)), ip(101), at(3)).unwrap();
    assert_eq!((kept.held, kept.until), (LeaseState::Declined, at(603)));
    assert_eq!(offered(&mut leases, &ask(1), 4), Some(102));
    assert!(is_granted(&take(&mut leases, 1, 102, RequestState::Selecting, 4)));
    assert_eq!(take(&mut leases, 1, 101, RequestState::Holding, 5), RequestOutcome::Refused);
    assert_eq!(leases.decline(&ClientId::Mac(mac(2)), ip(102), at(6)), None, "another client's address");
    assert_eq!(offered(&mut leases, &ask(2), 700), Some(100), "free again after a while");
}

#[test]
fn a_released_address_is_preferred_for_its_client() {
    let mut leases = leases();
    offered(&mut leases, &ask(1), 0);
    take(&mut leases, 1, 100, RequestState::Selecting, 0);
    assert_eq!(leases.release(&ClientId::Mac(mac(2)), ip(100), at(1)), None);
    let kept = leases.release(&ClientId::Mac(mac(1)), ip(100), at(1)).unwrap();
    assert_eq!((kept.held, kept.until), (LeaseState::Released, at(1)));
    assert_eq!(offered(&mut leases, &ask(2), 2), Some(101));
    assert_eq!(offered(&mut leases, &ask(1), 2), Some(100));
}

#[test]
fn a_bound_lease_does_not_pass_to_another_mac_address() {
    let mut leases = leases();
    let id = ClientId::Id(Box::new(*b"\0copied"));
    let of = |number: u8| LeaseRequest { client: id.clone(), ..ask(number) };
    let times = leases.subnet().times;
    assert_eq!(offered(&mut leases, &of(1), 0), Some(100));
    assert!(is_granted(&leases.request(&of(1), ip(100), RequestState::Selecting, times, at(0), nobody)));
    assert!(leases.holds(&of(1), ip(100), at(1)) && !leases.holds(&of(2), ip(100), at(1)));
    for state in [RequestState::Selecting, RequestState::Holding] {
        assert_eq!(leases.request(&of(2), ip(100), state, times, at(1), nobody), RequestOutcome::Refused);
    }
    assert_eq!(offered(&mut leases, &of(2), 1), Some(101), "it is offered an address of its own");
    let later = i64::try_from(times.lease.as_secs()).unwrap() + 1;
    assert!(!leases.holds(&of(1), ip(100), at(later)));
    assert!(
        is_granted(&leases.request(&of(2), ip(100), RequestState::Holding, times, at(later), nobody)),
        "it has ended"
    );
}

#[test]
fn leases_survive_a_restart() {
    let mut before = leases();
    offered(&mut before, &ask(1), 0);
    let RequestOutcome::Granted(lease) = take(&mut before, 1, 100, RequestState::Selecting, 0) else {
        panic!("granted")
    };
    let mut after = leases();
    after.load(lease, false);
    assert_eq!(offered(&mut after, &ask(2), 1), Some(101));
    assert!(is_granted(&take(&mut after, 1, 100, RequestState::Holding, 2)));
    assert_eq!(
        take(&mut after, 3, 102, RequestState::Holding, 3),
        RequestOutcome::Unknown,
        "of this one nothing is known"
    );
}

#[derive(Debug, Clone)]
enum Action {
    Discover(u8),
    Take(u8, u8, bool),
    Decline(u8, u8),
    Release(u8, u8),
    Wait(u16),
}

fn action() -> impl Strategy<Value = Action> {
    let (client, last) = (0..6u8, 98..105u8);
    prop_oneof![
        client.clone().prop_map(Action::Discover),
        (client.clone(), last.clone(), any::<bool>())
            .prop_map(|(client, last, selecting)| Action::Take(client, last, selecting)),
        (client.clone(), last.clone()).prop_map(|(client, last)| Action::Decline(client, last)),
        (client, last).prop_map(|(client, last)| Action::Release(client, last)),
        (0..2000u16).prop_map(Action::Wait),
    ]
}

proptest! {
    #[test]
    fn no_address_is_leased_to_two_clients_at_once(actions in proptest::collection::vec(action(), 1..200)) {
        let mut leases = leases();
        let (mut now, mut holders) = (0, HashMap::<u8, (u8, Timestamp)>::new());
        for action in actions {
            let others = |holders: &HashMap<u8, (u8, Timestamp)>, last: u8, client: u8, now: i64| {
                holders.get(&last).is_some_and(|(lease_owner, until)| *lease_owner != client && *until > at(now))
            };
            match action {
                Action::Discover(client) => if let Some(last) = offered(&mut leases, &ask(client), now) {
                    prop_assert!(!others(&holders, last, client, now), "{last} is offered while another has it");
                },
                Action::Take(client, last, selecting) => {
                    let how = if selecting { RequestState::Selecting } else { RequestState::Holding };
                    if let RequestOutcome::Granted(lease) = take(&mut leases, client, last, how, now) {
                        prop_assert!(!others(&holders, last, client, now), "{last} is given while another has it");
                        prop_assert!((100..=102).contains(&last));
                        holders.insert(last, (client, lease.until));
                    }
                }
                Action::Decline(client, last) => if leases.decline(&ClientId::Mac(mac(client)), ip(last), at(now)).is_some() {
                    holders.remove(&last);
                },
                Action::Release(client, last) => if leases.release(&ClientId::Mac(mac(client)), ip(last), at(now)).is_some() {
                    prop_assert_eq!(holders.remove(&last).map(|(lease_owner, _)| lease_owner), Some(client));
                },
                Action::Wait(seconds) => now += i64::from(seconds),
            }
            prop_assert_eq!(leases.entries.len(), leases.ends.len());
            prop_assert!(leases.entries.len() <= 3);
            for (client, address) in &leases.by_client {
                prop_assert_eq!(&leases.entries[address].client, client);
            }
        }
    }
}
