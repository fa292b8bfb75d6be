//! Calls the library's ISO code, so that tests can check its output with other programs.
//!
//! `iso inspect FILE | ls FILE | cat FILE PATH | seed OUT HOST INSTANCE NAME=FILE... |
//!  view FILE OUT [--append ARG] [--remove ARG] [--timeout S] [--file PATH=FILE] [--ignition FILE] [--digest]`

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::Arc;

use anyhow::{Context, bail};
use bootlatch::iso::{self, Customization, DigestPolicy, Extent, ImageFile, Iso, MenuEdit, OverlayView, ReadAt};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["inspect", file] => print!("{}", iso::examine(&open(file)?)?),
        ["ls", file] => Iso::open(&open(file)?)?.walk(&mut |path, entry| {
            println!("{path}\t{}\t{:?}", entry.length(), entry.kind);
            Ok(())
        })?,
        ["cat", file, path] => {
            let image = open(file)?;
            let extents = Iso::open(&image)?.file_extents(path)?.context("no such file")?;
            copy(&image, &extents, &mut io::stdout().lock())?;
        }
        ["seed", out, host, instance, ref files @ ..] => {
            let read = |pair: &&str| {
                let (name, file) = pair.split_once('=').context("NAME=FILE")?;
                Ok((name.to_owned(), fs::read(file)?))
            };
            let files = files.iter().map(read).collect::<anyhow::Result<BTreeMap<String, Vec<u8>>>>()?;
            fs::write(out, iso::build_seed(host, instance, &files)?)?;
        }
        ["view", file, out, ref wishes @ ..] => view(file, out, wishes)?,
        _ => bail!("see the head of this file"),
    }
    Ok(())
}

fn open(file: &str) -> anyhow::Result<ImageFile> {
    Ok(ImageFile::new(File::open(file).with_context(|| file.to_owned())?)?)
}

fn copy(image: &dyn ReadAt, extents: &[Extent], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for extent in extents {
        let end = extent.offset + extent.length;
        for at in (extent.offset..end).step_by(buffer.len()) {
            let part = &mut buffer[..(end - at).min(1 << 20) as usize];
            image.read_at(at, part)?;
            out.write_all(part)?;
        }
    }
    Ok(())
}

fn view(file: &str, out: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let mut wishes = Customization { edit: MenuEdit::default(), ..Customization::default() };
    let mut arguments = arguments.iter();
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().copied().context("a value is missing");
        match *option {
            "--append" => wishes.edit.append.push(value()?.to_owned()),
            "--remove" => wishes.edit.remove.push(value()?.to_owned()),
            "--timeout" => wishes.edit.timeout = Some(value()?.parse()?),
            "--file" => {
                let (path, file) = value()?.split_once('=').context("PATH=FILE")?;
                wishes.files.push((path.to_owned(), fs::read(file)?.into()));
            }
            "--ignition" => wishes.ignition = Some(fs::read(value()?)?.into()),
            "--digest" => wishes.digest = DigestPolicy::Recompute,
            other => bail!("{other}?"),
        }
    }
    let base = Arc::new(open(file)?);
    let examined = iso::examine(&*base)?;
    let composed = iso::compose(&*base, &examined, file.as_bytes(), &wishes)?;
    println!(
        "tag {}\nlength {}\nheld {}",
        composed.overlay.tag(),
        composed.overlay.length(),
        composed.overlay.patch_bytes()
    );
    composed.changed.iter().for_each(|path| println!("changed {path}"));
    composed.warnings.iter().for_each(|warning| println!("note {warning}"));
    let view = OverlayView::new(base, Arc::new(composed.overlay));
    let whole = Extent { offset: 0, length: view.len() };
    copy(&view, &[whole], &mut File::create(out)?)
}
