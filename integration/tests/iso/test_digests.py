"""The digest that isomd5sum implants in an image: kept correct in a view, or removed."""

import subprocess

from support.iso_images import run, text, write
from support.iso_readers import driver, grub_reads, long_arguments, with_arguments


def test_the_implanted_digest_is_kept_correct_or_removed(fedora, here, view):
    assert "isomd5sum" in driver("inspect", fedora), "the digest is recognised"
    run("checkisomd5", fedora)
    for customization in (with_arguments(), long_arguments(12, 120), with_arguments("--file", f"/ks.cfg={write(here / 'ks', 'x')}")):
        driver("view", fedora, view, "--digest", *customization)
        assert "Supported ISO: yes" in text("checkisomd5", "--md5sumonly", view), "the view has a digest"
        run("checkisomd5", view, stdin=subprocess.DEVNULL)
        shown = driver("view", fedora, view, *customization)
        assert "rd.live.check" in shown, f"without --digest, its removal is reported: {shown}"
        done = subprocess.run(["checkisomd5", view], capture_output=True)
        assert b"No checksum information available" in done.stderr, f"without --digest, the view has none: {done}"
        assert b"rd.live.check" not in grub_reads(view, "/EFI/BOOT/grub.cfg"), "the menu does not ask for the check"


def test_the_digest_is_what_implantisomd5_writes(fedora, view):
    driver("view", fedora, view, "--digest", *long_arguments(12, 120))
    ours = view.read_bytes()[32768 + 883:32768 + 1395]
    run("implantisomd5", "--force", "--supported-iso", view)
    assert ours == view.read_bytes()[32768 + 883:32768 + 1395], "implantisomd5 writes the same digest into the same bytes"
