//! The full table of evidence, against rules that are written down row by row.

use super::*;

const VM: Mac = Mac([2, 0, 0, 0, 0, 1]);
const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const MACHINES: [Option<Mac>; 3] = [None, Some(VM), Some(OTHER)];

/// The `spec.ip` of a host, next to the address of the request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum SpecIp {
    Absent,
    Same,
    Different,
}

const SPEC_IPS: [SpecIp; 3] = [SpecIp::Absent, SpecIp::Same, SpecIp::Different];

/// Returns every combination of evidence that can occur, for a client that claims to be `VM`.
fn every_evidence() -> Vec<Evidence> {
    let mut table = Vec::new();
    for vm in SPEC_IPS {
        for other in SPEC_IPS {
            // A `spec.ip` belongs to one host.
            if (vm, other) == (SpecIp::Same, SpecIp::Same) {
                continue;
            }
            let has_other_spec_ip = |mac| (if mac == VM { vm } else { other }) == SpecIp::Different;
            let candidate = |mac: Option<Mac>| {
                mac.map(|mac| Candidate { mac, has_other_spec_ip: has_other_spec_ip(mac), is_elsewhere: false })
            };
            let spec_ip_owner = match (vm, other) {
                (SpecIp::Same, _) => Some(VM),
                (_, SpecIp::Same) => Some(OTHER),
                _ => None,
            };
            for (origin, neighbour, lease, heard) in every_record() {
                for flags in 0..8 {
                    let lease = candidate(lease);
                    table.push(Evidence {
                        origin,
                        neighbour,
                        lease: lease.map(|lease| Candidate { is_elsewhere: flags & 4 != 0, ..lease }),
                        spec_ip_owner,
                        heard: candidate(heard),
                        is_trusted_subnet: flags & 1 != 0,
                        claim: ClaimEvidence {
                            has_other_spec_ip: has_other_spec_ip(VM),
                            is_present_elsewhere: flags & 2 != 0,
                        },
                        token: TokenEvidence::Absent,
                        is_other_interface: false,
                    });
                }
            }
        }
    }
    table
}

/// The origin, and the machines of the neighbour table, the lease and the heard exchange.
type EvidenceRow = (Origin, Option<Mac>, Option<Mac>, Option<Mac>);

fn every_record() -> Vec<EvidenceRow> {
    let mut records = Vec::new();
    for origin in [Origin::Unknown, Origin::Loopback, Origin::Network] {
        for neighbour in MACHINES {
            for lease in MACHINES {
                records.extend(MACHINES.map(|heard| (origin, neighbour, lease, heard)));
            }
        }
    }
    records
}

type Rule = (&'static str, fn(&Evidence) -> bool, Result<ClientIdentity, Reason>);

/// Returns the outcome of the first rule that matches.
fn outcome(rules: &[Rule], evidence: &Evidence) -> Result<ClientIdentity, Reason> {
    rules.iter().find(|(_, matches, _)| matches(evidence)).unwrap().2
}

fn names(evidence: &Evidence, mac: Mac) -> bool {
    evidence.neighbour == Some(mac)
        || evidence.lease.is_some_and(|lease| lease.mac == mac)
        || evidence.spec_ip_owner == Some(mac)
}

fn names_both(evidence: &Evidence) -> bool {
    names(evidence, VM) && names(evidence, OTHER)
}

fn is_leased_off_spec(evidence: &Evidence) -> bool {
    evidence.neighbour.is_none() && evidence.lease.is_some_and(|lease| lease.has_other_spec_ip)
}

/// Returns whether only a lease names the machine, while the machine itself is elsewhere.
fn is_leased_in_its_absence(evidence: &Evidence) -> bool {
    evidence.neighbour.is_none()
        && evidence.spec_ip_owner.is_none()
        && evidence.lease.is_some_and(|lease| lease.is_elsewhere)
}

fn hears(evidence: &Evidence, mac: Mac) -> bool {
    evidence.heard.is_some_and(|heard| heard.mac == mac)
}

#[test]
fn a_claim_is_judged_by_the_first_rule_that_matches() {
    let verified = Ok(ClientIdentity::Verified(VM));
    let rules: [Rule; 12] = [
        (
            "no address, or this computer's",
            |evidence| evidence.origin != Origin::Network,
            Ok(ClientIdentity::Claimed(VM)),
        ),
        ("two machines are named", names_both, Err(Reason::AddressOfOtherMachine)),
        ("its lease is not its spec.ip", is_leased_off_spec, Err(Reason::NotSpecIp)),
        ("it is leased in its absence", is_leased_in_its_absence, Err(Reason::SeenAtOtherAddress)),
        ("it is named", |evidence| names(evidence, VM), verified),
        ("another machine is named", |evidence| names(evidence, OTHER), Err(Reason::AddressOfOtherMachine)),
        ("its spec.ip is elsewhere", |evidence| evidence.claim.has_other_spec_ip, Err(Reason::NotSpecIp)),
        ("it is elsewhere", |evidence| evidence.claim.is_present_elsewhere, Err(Reason::SeenAtOtherAddress)),
        ("the subnet is trusted", |evidence| evidence.is_trusted_subnet, verified),
        ("it was heard", |evidence| hears(evidence, VM), verified),
        ("another machine was heard", |evidence| hears(evidence, OTHER), Err(Reason::AddressOfOtherMachine)),
        ("nothing is known", |_| true, Ok(ClientIdentity::Claimed(VM))),
    ];
    let table = every_evidence();
    assert_eq!(table.len(), 8 * 81 * 8);
    for evidence in &table {
        assert_eq!(judge(evidence, Some(VM)), outcome(&rules, evidence), "{evidence:?}");
    }
    for (number, (name, ..)) in rules.iter().enumerate() {
        let decides = |evidence: &&Evidence| rules.iter().position(|rule| rule.1(evidence)) == Some(number);
        assert!(table.iter().any(|evidence| decides(&evidence)), "no evidence reaches the rule {name:?}");
    }
}

#[test]
fn an_address_without_a_claim_is_judged_by_the_first_rule_that_matches() {
    let is_heard_off_spec = |evidence: &Evidence| evidence.heard.is_some_and(|heard| heard.has_other_spec_ip);
    let rules: [Rule; 9] = [
        ("two machines are named", names_both, Err(Reason::AddressOfOtherMachine)),
        ("its lease is not its spec.ip", is_leased_off_spec, Err(Reason::NotSpecIp)),
        ("it is leased in its absence", is_leased_in_its_absence, Err(Reason::SeenAtOtherAddress)),
        ("one is named", |evidence| names(evidence, VM), Ok(ClientIdentity::Verified(VM))),
        ("the other is named", |evidence| names(evidence, OTHER), Ok(ClientIdentity::Verified(OTHER))),
        ("heard, with another spec.ip", is_heard_off_spec, Err(Reason::NotSpecIp)),
        ("one was heard", |evidence| hears(evidence, VM), Ok(ClientIdentity::Verified(VM))),
        ("the other was heard", |evidence| hears(evidence, OTHER), Ok(ClientIdentity::Verified(OTHER))),
        ("nothing is known", |_| true, Ok(ClientIdentity::Unknown)),
    ];
    for evidence in every_evidence() {
        assert_eq!(judge(&evidence, None), outcome(&rules, &evidence), "{evidence:?}");
    }
}

const TOKENS: [TokenEvidence; 7] = [
    TokenEvidence::Absent,
    TokenEvidence::Invalid(None),
    TokenEvidence::Invalid(Some(VM)),
    TokenEvidence::Expired(VM),
    TokenEvidence::Expired(OTHER),
    TokenEvidence::Valid(VM),
    TokenEvidence::Valid(OTHER),
];

/// Returns what a token and the judgement of the address come to.
fn admitted(
    token: TokenEvidence,
    address: Result<ClientIdentity, Reason>,
    is_other_interface: bool,
    require: ConfigProof,
) -> Result<Mac, AdmissionRefusal> {
    use ConfigProof::{Address, Both, Token};
    let refuse = |reason, mac| Err(AdmissionRefusal { reason, mac });
    match (token, address, require) {
        (TokenEvidence::Invalid(mac), _, _) => refuse(Reason::TokenInvalid, mac),
        (TokenEvidence::Expired(mac), _, _) => refuse(Reason::TokenInvalid, Some(mac)),
        // The token alone.
        (TokenEvidence::Valid(mac), _, Token) => Ok(mac),
        (TokenEvidence::Absent, Err(reason), _) => refuse(reason, None),
        (TokenEvidence::Valid(mac), Err(reason), Address | Both) => refuse(reason, Some(mac)),
        (TokenEvidence::Absent, Ok(identity), Token | Both) => refuse(Reason::TokenMissing, identity.verified()),
        (TokenEvidence::Absent, Ok(ClientIdentity::Verified(mac)), Address) => Ok(mac),
        (TokenEvidence::Absent, Ok(_), Address) => refuse(Reason::UnknownHost, None),
        // The token and the address.
        (TokenEvidence::Valid(mac), Ok(ClientIdentity::Verified(owner)), _) if owner == mac => Ok(mac),
        // Another interface of the same machine.
        (TokenEvidence::Valid(mac), Ok(ClientIdentity::Verified(_)), Address) if is_other_interface => Ok(mac),
        (TokenEvidence::Valid(mac), Ok(ClientIdentity::Verified(_)), _) => {
            refuse(Reason::AddressOfOtherMachine, Some(mac))
        }
        (TokenEvidence::Valid(mac), Ok(_), Address) => Ok(mac),
        (TokenEvidence::Valid(mac), Ok(_), Both) => refuse(Reason::AddressUnverified, Some(mac)),
    }
}

#[test]
fn a_token_and_an_address_admit_as_the_configuration_demands() {
    for evidence in every_evidence() {
        for (token, is_other_interface) in TOKENS.into_iter().flat_map(|token| [(token, false), (token, true)]) {
            let evidence = Evidence { token, is_other_interface, ..evidence };
            for require in [ConfigProof::Address, ConfigProof::Token, ConfigProof::Both] {
                let expected = admitted(token, judge(&evidence, None), is_other_interface, require);
                assert_eq!(admit(&evidence, require), expected, "{require:?} {evidence:?}");
                for tied in [false, true] {
                    let expected = match (require, expected) {
                        (ConfigProof::Address, _) => Ok(tied),
                        (_, Ok(VM)) => Ok(true),
                        (_, Ok(_)) => Err(Reason::TokenInvalid),
                        (_, Err(_)) if tied && token == TokenEvidence::Expired(VM) => Ok(true),
                        (_, Err(refusal)) => Err(refusal.reason),
                    };
                    assert_eq!(may_see_config(&evidence, VM, tied, require), expected, "{require:?} {evidence:?}");
                }
                let is_proved = require == ConfigProof::Token && token == TokenEvidence::Valid(VM);
                assert_eq!(is_proved_by_token(&evidence, VM, require), is_proved);
            }
        }
    }
}

#[test]
fn what_ties_an_address_is_named_by_the_strongest_evidence() {
    for evidence in every_evidence() {
        let leased = evidence.lease.is_some_and(|lease| lease.mac == VM);
        let expected = match (evidence.neighbour, leased, evidence.spec_ip_owner) {
            (Some(VM), ..) => Some(AddressEvidence::Neighbour),
            (_, true, _) => Some(AddressEvidence::Lease),
            (_, _, Some(VM)) => Some(AddressEvidence::SpecIp),
            _ if hears(&evidence, VM) => Some(AddressEvidence::DhcpExchange),
            _ => evidence.is_trusted_subnet.then_some(AddressEvidence::TrustedSubnet),
        };
        assert_eq!(evidence.proof(VM), expected, "{evidence:?}");
        if judge(&evidence, Some(VM)) == Ok(ClientIdentity::Verified(VM)) {
            assert!(expected.is_some(), "a verified address has a proof: {evidence:?}");
        }
    }
}
