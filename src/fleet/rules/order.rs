//! The order in which objects that refer to each other are written.

use std::collections::HashMap;

use super::super::Kind;

/// An object for `order`: its kind, its name, and for an image the names of its companions.
pub type Referred<'a> = (Kind, &'a str, Vec<&'a str>);

/// Returns the rank of each object, lowest first: configs, then images, each after its companions, then hosts.
///
/// # Errors
/// The index of an image in a circle of companions.
pub fn order(objects: &[Referred<'_>]) -> Result<Vec<(u8, usize)>, usize> {
    let images = || objects.iter().enumerate().filter(|(_, (kind, ..))| *kind == Kind::IscsiCdrom);
    let places: HashMap<&str, usize> = images().map(|(place, (_, name, _))| (*name, place)).collect();
    let mut depths = vec![0; objects.len()];
    // Without circles, this ends after at most as many steps as there are images.
    for step in 0.. {
        let mut moved = None;
        for (place, (.., beside)) in images() {
            let behind = beside.iter().filter_map(|name| places.get(name)).map(|other| depths[*other] + 1).max();
            if let Some(depth) = behind.filter(|depth| depths[place] < *depth) {
                depths[place] = depth;
                moved = Some(place);
            }
        }
        match moved {
            None => break,
            Some(place) if step > places.len() => return Err(place),
            Some(_) => {}
        }
    }
    let rank = |kind: Kind| match kind {
        Kind::BootConfig => 0,
        Kind::IscsiCdrom => 1,
        Kind::BareMetalHost => 2,
    };
    Ok(objects.iter().zip(depths).map(|((kind, ..), depth)| (rank(*kind), depth)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn referenced_objects_come_first() {
        let image = |name, beside: &[&'static str]| (Kind::IscsiCdrom, name, beside.to_vec());
        let objects = [
            (Kind::BareMetalHost, "a", vec![]),
            image("c", &["b", "elsewhere"]),
            image("b", &["a"]),
            (Kind::BootConfig, "c", vec![]),
            image("a", &[]),
        ];
        assert_eq!(order(&objects), Ok(vec![(2, 0), (1, 2), (1, 1), (0, 0), (1, 0)]));
        let round = [image("b", &[]), image("c", &["d"]), image("d", &["c"])];
        assert!(matches!(order(&round), Err(1 | 2)));
        assert!(order(&[image("a", &["a"])]).is_err());
    }
}
