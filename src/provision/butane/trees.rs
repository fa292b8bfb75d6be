//! Trees of local files.

use serde_json::{Map, Value, json};

use super::contents::data_url;
use super::{Compiler, TreeEntry, TreeNode, items, text};

/// Modes of files that have none in the config.
const MODE: u32 = 0o644;
const EXECUTABLE_MODE: u32 = 0o755;

impl Compiler<'_> {
    /// Adds the files and links of the config's trees.
    pub(super) fn add_trees(&mut self, source: &Map<String, Value>, config: &mut Value) {
        let source = Value::Object(source.clone());
        for (index, tree) in items(&source, "/storage/trees").iter().enumerate() {
            let at = format!("storage.trees.{index}");
            let local = text(tree, "local");
            let found = match self.files {
                Some(files) => files.tree(local).map_err(|error| format!("{local}: {error}")),
                None => Err("local files, and no directory of local files was given".to_owned()),
            };
            match found {
                Ok(entries) => {
                    let base = text(tree, "path").trim_end_matches('/');
                    entries.iter().for_each(|entry| self.add_entry(base, entry, config, &at));
                }
                Err(error) => self.error(&at, error),
            }
        }
    }

    fn add_entry(&mut self, base: &str, entry: &TreeEntry, config: &mut Value, at: &str) {
        let path = format!("{base}/{}", entry.path);
        let (list, key) = match entry.node {
            TreeNode::File { .. } => ("files", "contents"),
            TreeNode::Link { .. } => ("links", "target"),
        };
        let others = ["files", "links", "directories"].iter().filter(|other| **other != list);
        let is_taken =
            others.flat_map(|other| items(config, &format!("/storage/{other}"))).any(|node| text(node, "path") == path);
        let storage = config.as_object_mut().map(|config| config.entry("storage").or_insert_with(|| json!({})));
        let nodes =
            storage.and_then(Value::as_object_mut).map(|storage| storage.entry(list).or_insert_with(|| json!([])));
        let Some(nodes) = nodes.and_then(Value::as_array_mut) else { return };
        let place = nodes.iter().position(|node| text(node, "path") == path);
        let is_filled = place.is_some_and(|place| match key {
            "contents" => !text(&nodes[place]["contents"], "source").is_empty(),
            key => !text(&nodes[place], key).is_empty(),
        });
        if is_taken || is_filled {
            return self.error(at, format!("{path} is in the config already"));
        }
        let place = place.unwrap_or_else(|| {
            nodes.push(json!({"path": path}));
            nodes.len() - 1
        });
        let node = &mut nodes[place];
        match &entry.node {
            TreeNode::Link { target } => node["target"] = target.as_str().into(),
            TreeNode::File { content, is_executable } => {
                let is_compressed = !text(&node["contents"], "compression").is_empty();
                let (source, compression) = data_url(content, is_compressed);
                node["contents"]["source"] = source.into();
                if let Some(compression) = compression {
                    node["contents"]["compression"] = compression.into();
                }
                if node.get("mode").is_none() {
                    node["mode"] = if *is_executable { EXECUTABLE_MODE } else { MODE }.into();
                }
            }
        }
    }
}
