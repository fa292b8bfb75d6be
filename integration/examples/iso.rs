//! A driver for `integration/tests/iso`: shows what the library makes of an image.
use bootlatch::iso::{self, Iso};
fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let image = iso::ImageFile::new(std::fs::File::open(&args[1])?)?;
    match args[0].as_str() {
        "inspect" => println!("{:#?}", iso::examine(&image)?),
        "ls" => Iso::open(&image)?.walk(&mut |path, entry| {
            println!("{path} {} {:?}", entry.length(), entry.kind);
            entry.within(iso::ReadAt::len(&image), path)
        })?,
        "cat" => {
            let iso = Iso::open(&image)?;
            let extents = iso.file(&args[2])?.ok_or_else(|| anyhow::anyhow!("no such file"))?;
            eprintln!("{extents:?}");
            let mut out = std::io::stdout().lock();
            for extent in extents {
                let mut at = extent.offset;
                while at < extent.offset + extent.length {
                    let mut data = vec![0; (extent.offset + extent.length - at).min(1 << 20) as usize];
                    iso::ReadAt::read_at(&image, at, &mut data)?;
                    std::io::Write::write_all(&mut out, &data)?;
                    at += data.len() as u64;
                }
            }
        }
        _ => anyhow::bail!("inspect|ls|cat FILE"),
    }
    Ok(())
}
