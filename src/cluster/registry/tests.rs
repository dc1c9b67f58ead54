use super::*;
use crate::cluster::Root;

const SECRET: [u8; 32] = [7; 32];
const KEY: [u8; 32] = [9; 32];

fn token(id: &str, expires: u64) -> Change {
    Change::CreateToken {
        id: id.into(),
        secret_sha256: SECRET,
        expires,
        part: Part::Voter,
        now: 1000,
    }
}

fn admit(token: &str, node: u64, name: &str, now: u64) -> Change {
    Change::Admit {
        token: token.into(),
        key_sha256: KEY,
        node: NodeId(node),
        name: name.into(),
        address: "h:1".into(),
        now,
    }
}

fn register(node: u64, name: &str, part: Part) -> Change {
    let record = Node { name: name.into(), address: "h:1".into(), part };
    Change::Register { node: NodeId(node), record }
}

#[test]
fn a_token_lets_one_node_in() {
    let mut registry = Registry::default();
    assert_eq!(registry.change(&admit("a", 4, "n4", 1000)), Err(Refused::TokenUnknown));
    registry.change(&token("a", 1100)).unwrap();
    assert_eq!(registry.change(&token("a", 1200)), Err(Refused::TokenExists));
    let before = registry.clone();
    assert_eq!(registry.change(&admit("a", 4, "n4", 1100)), Err(Refused::TokenExpired));
    assert_eq!(registry, before, "a refused change changes nothing");
    registry.change(&admit("a", 4, "n4", 1099)).unwrap();
    assert_eq!(registry.part(NodeId(4)), Some(Part::Voter));
    let used = TokenState::Used { node: NodeId(4), key_sha256: KEY };
    assert_eq!(registry.tokens()["a"].state, used);
    assert_eq!(registry.change(&admit("a", 5, "n5", 1099)), Err(Refused::TokenUsed));
    assert_eq!(registry.change(&Change::RevokeToken { id: "a".into() }), Err(Refused::TokenUsed));
}

#[test]
fn a_revoked_token_lets_nobody_in() {
    let mut registry = Registry::default();
    registry.change(&token("a", 1100)).unwrap();
    registry.change(&Change::RevokeToken { id: "a".into() }).unwrap();
    registry.change(&Change::RevokeToken { id: "a".into() }).unwrap();
    assert_eq!(registry.change(&admit("a", 4, "n4", 1000)), Err(Refused::TokenRevoked));
    let unknown = registry.change(&Change::RevokeToken { id: "b".into() });
    assert_eq!(unknown, Err(Refused::TokenUnknown));
}

#[test]
fn names_and_numbers_are_given_once() {
    let mut registry = Registry::default();
    for id in ["a", "b", "c", "d"] {
        registry.change(&token(id, 1100)).unwrap();
    }
    registry.change(&admit("a", 4, "n4", 1000)).unwrap();
    assert_eq!(registry.change(&admit("b", 5, "N4", 1000)), Err(Refused::NameTaken));
    assert_eq!(registry.change(&admit("b", 4, "n5", 1000)), Err(Refused::NumberTaken));
    // A token whose use was refused is unused.
    registry.change(&admit("b", 5, "n5", 1000)).unwrap();
    registry.change(&register(5, "n5", Part::Removed)).unwrap();
    assert_eq!(registry.change(&register(5, "n5", Part::Voter)), Err(Refused::NumberTaken));
    // The name is free again, the number never.
    registry.change(&admit("c", 6, "n5", 1000)).unwrap();
    assert_eq!(registry.change(&admit("d", 5, "n9", 1000)), Err(Refused::NumberTaken));
    assert_eq!(registry.next_number(&BTreeSet::from([NodeId(2)])), NodeId(7));
    assert_eq!(registry.next_number(&BTreeSet::from([NodeId(20)])), NodeId(21));
}

#[test]
fn tokens_are_forgotten_some_time_after_their_end_and_bounded() {
    let mut registry = Registry::default();
    registry.change(&token("old", 1100)).unwrap();
    for number in 1..TOKENS_MAX {
        registry.change(&token(&number.to_string(), 5000)).unwrap();
    }
    assert_eq!(registry.change(&token("more", 5000)), Err(Refused::TooManyTokens));
    let Change::CreateToken { id, secret_sha256, expires, part, .. } = token("more", 5000) else {
        unreachable!()
    };
    let now = 1100 + REMEMBERED;
    registry.change(&Change::CreateToken { id, secret_sha256, expires, part, now }).unwrap();
    assert!(!registry.tokens().contains_key("old"));
}

#[test]
fn what_is_trusted_covers_both_sides_of_a_rotation() {
    use crate::cluster::Rotation;
    let root = |name: &str| Root { certificate_pem: format!("{name}\n"), key_pem: "secret".into() };
    let mut authority = Authority { signs: root("one"), rotation: None };
    assert_eq!(authority.trusted_pem(), "one\n");
    authority.rotation = Some(Rotation::Spreading { next: root("two") });
    assert_eq!(authority.trusted_pem(), "one\ntwo\n");
    let old_pem = "one\n".into();
    let authority =
        Authority { signs: root("two"), rotation: Some(Rotation::Renewing { old_pem }) };
    assert_eq!(authority.trusted_pem(), "two\none\n");
    assert!(!format!("{authority:?}").contains("secret"));
}
