//! The order in which objects that refer to each other are written.

use std::collections::HashMap;

use super::super::Kind;

/// An object to be ranked: its kind, its name, and the names of an image's companions.
pub type ObjectReferences<'a> = (Kind, &'a str, Vec<&'a str>);

/// Returns the rank of each object, lowest first: configs, then images, each after its companions, then hosts.
///
/// # Errors
/// The index of an image in a cycle of companions.
pub fn rank_objects(objects: &[ObjectReferences<'_>]) -> Result<Vec<(u8, usize)>, usize> {
    let images = || objects.iter().enumerate().filter(|(_, (kind, ..))| *kind == Kind::IscsiCdrom);
    let indexes: HashMap<&str, usize> = images().map(|(index, (_, name, _))| (*name, index)).collect();
    let mut depths = vec![0; objects.len()];
    // Without cycles, this ends after at most as many rounds as there are images.
    for round in 0.. {
        let mut changed = None;
        for (index, (.., companions)) in images() {
            let declared = companions.iter().filter_map(|name| indexes.get(name));
            let minimum = declared.map(|companion| depths[*companion] + 1).max();
            if let Some(depth) = minimum.filter(|depth| depths[index] < *depth) {
                depths[index] = depth;
                changed = Some(index);
            }
        }
        match changed {
            None => break,
            Some(index) if round > indexes.len() => return Err(index),
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
        let image = |name, companions: &[&'static str]| (Kind::IscsiCdrom, name, companions.to_vec());
        let objects = [
            (Kind::BareMetalHost, "a", vec![]),
            image("c", &["b", "elsewhere"]),
            image("b", &["a"]),
            (Kind::BootConfig, "c", vec![]),
            image("a", &[]),
        ];
        assert_eq!(rank_objects(&objects), Ok(vec![(2, 0), (1, 2), (1, 1), (0, 0), (1, 0)]));
        let cycle = [image("b", &[]), image("c", &["d"]), image("d", &["c"])];
        assert!(matches!(rank_objects(&cycle), Err(1 | 2)));
        assert!(rank_objects(&[image("a", &["a"])]).is_err());
    }
}
