//! The order in which objects that refer to each other are written.

use std::collections::HashMap;

use super::super::Kind;

/// An object to be ranked: its kind, its name, and the names of an image's companions.
pub type ObjectReferences<'a> = (Kind, &'a str, Vec<&'a str>);

/// Returns the rank of each object, lowest first: templates, configs, then images, each after its companions, then hosts.
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
        Kind::ConfigTemplate => 0,
        Kind::BootConfig => 1,
        Kind::IscsiCdrom => 2,
        Kind::BareMetalHost => 3,
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
            (Kind::ConfigTemplate, "c", vec![]),
        ];
        assert_eq!(rank_objects(&objects), Ok(vec![(3, 0), (2, 2), (2, 1), (1, 0), (2, 0), (0, 0)]));
        let cycle = [image("b", &[]), image("c", &["d"]), image("d", &["c"])];
        assert!(matches!(rank_objects(&cycle), Err(1 | 2)));
        assert!(rank_objects(&[image("a", &["a"])]).is_err());
    }
}
