"""ISOs laid out as the tools of distributions do: their boot menus, with small files in place of kernels and initrds."""

from dataclasses import dataclass, field
from pathlib import Path

from support.iso_images import efi_image, run, write

KERNEL = bytes(range(256)) * 40


@dataclass
class Layout:
    """One ISO. `kernel` is what its object's status must name: kernel, initrds and arguments; None if there is none.

    `lines` holds, for each menu, the lines that a host with the argument site.arg=1 must see.
    """

    name: str
    volume: str
    menus: dict
    files: list
    kernel: tuple
    lines: dict
    family: str = "unknown"
    more: dict = field(default_factory=dict)
    esp: dict = field(default_factory=dict)


def build(layout, place):
    """Makes the ISO of a layout; returns its path."""
    tree = place / layout.name
    for path, data in {**layout.menus, **layout.more, **{path: KERNEL for path in layout.files}}.items():
        write(tree / path, data)
    options = []
    if layout.esp:
        write(tree / "isolinux.bin", Path("/usr/lib/ISOLINUX/isolinux.bin").read_bytes())
        image = efi_image(place / f"{layout.name}.esp", 2880, "12", layout.esp)
        options = ["-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table",
                   "-append_partition", "2", "0xef", image, "-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"]
    run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-J", "-V", layout.volume, "-o", place / f"{layout.name}.iso", *options, tree)
    return place / f"{layout.name}.iso"


def anaconda(title, label, command=""):
    """Returns lorax's menu for GRUB."""
    entry = lambda name, more: (f"menuentry '{name}' --class fedora --class gnu-linux --class gnu --class os {{\n"
                                f"\tlinux{command} /images/pxeboot/vmlinuz inst.stage2=hd:LABEL={label} {more}quiet\n\tinitrd{command} /images/pxeboot/initrd.img\n}}\n")
    return (f"set default=\"1\"\n\nfunction load_video {{\n  insmod all_video\n}}\n\nload_video\nset gfxpayload=keep\ninsmod gzio\n\nset timeout=60\n"
            f"search --no-floppy --set=root -l '{label}'\n\n" + entry(f"Install {title}", "") + entry(f"Test this media & install {title}", "rd.live.check ")
            + f"submenu 'Troubleshooting -->' {{\n{entry(f'Rescue a {title} system', 'inst.rescue ')}}}\n")


RHEL = "RHEL-9-4-0-BaseOS-x86_64"
RHEL_ISOLINUX = f"""default vesamenu.c32
timeout 600
display boot.msg
menu title Red Hat Enterprise Linux 9.4
label linux
  menu label ^Install Red Hat Enterprise Linux 9.4
  kernel vmlinuz
  append initrd=initrd.img inst.stage2=hd:LABEL={RHEL} quiet
label check
  menu label Test this ^media & install Red Hat Enterprise Linux 9.4
  menu default
  kernel vmlinuz
  append initrd=initrd.img inst.stage2=hd:LABEL={RHEL} rd.live.check quiet
menu begin ^Troubleshooting
label rescue
  menu label ^Rescue a Red Hat Enterprise Linux system
  kernel vmlinuz
  append initrd=initrd.img inst.rescue quiet
label local
  menu label Boot from ^local drive
  localboot 0xffff
menu end
"""

SUSE_ISOLINUX = """default harddisk

# hard disk
label harddisk
  localboot -2

# install
label linux
  kernel linux
  append initrd=initrd splash=silent showopts

# upgrade
label upgrade
  kernel linux
  append initrd=initrd splash=silent upgrade=1 showopts

ui           gfxboot bootlogo message
implicit     1
prompt       1
timeout      600
"""

SUSE_GRUB = """insmod gfxterm
default=0
timeout=60

menuentry 'Boot from Hard Disk' --class opensuse --class gnu-linux --class gnu --class os {
  if search --no-floppy --file /efi/boot/fallback.efi --set ; then
    for os in opensuse sles caasp ; do
      if [ -f /efi/$os/grub.efi ] ; then
        chainloader /efi/$os/grub.efi
        boot
      fi
    done
  fi
  exit
}

menuentry 'Installation' --class opensuse --class gnu-linux --class gnu --class os {
  set gfxpayload=keep
  echo 'Loading kernel ...'
  linux /boot/x86_64/loader/linux splash=silent
  echo 'Loading initial ramdisk ...'
  initrd /boot/x86_64/loader/initrd
}
"""

AGAMA = """search --file --set=root /boot/0xebe87947
set default=0
if [ -n "$extra_cmdline" ]; then
  submenu "Bootable snapshot $snapshot_num" {
    menuentry "If OK, run snapper rollback and reboot." { true; }
  }
fi
if [ -n "${iso_path}" ]; then
    isoboot="iso-scan/filename=${iso_path}"
fi
set timeout=10
menuentry "Boot from Hard Disk" --class opensuse --class gnu-linux --class gnu --class os {
  exit
}
menuentry "Install SLES 16.0" --class os --unrestricted {
    set gfxpayload=keep
    echo Loading kernel...
    linux ($root)/boot/x86_64/loader/linux ${extra_cmdline} ${isoboot}
    echo Loading initrd...
    initrd ($root)/boot/x86_64/loader/initrd
}
if [ "${grub_platform}" = "efi" ]; then
    hiddenentry "Text mode" --hotkey "t" {
        set textmode=true
    }
fi
"""

ARCH_ENTRY = ("title    Arch Linux install medium (x86_64, UEFI)\nsort-key 01\nlinux    /arch/boot/x86_64/vmlinuz-linux\n"
              "initrd   /arch/boot/x86_64/initramfs-linux.img\noptions  archisobasedir=arch archisosearchuuid=2026-11-01-10-00-00-00\n")
ARCH_ARGUMENTS = "archisobasedir=arch archisosearchuuid=2026-11-01-10-00-00-00"
ARCH_GRUB = f"""if [ -z "${{ARCHISO_UUID}}" ]; then
    search --no-floppy --set=root --file '/boot/2026.uuid' --hint "${{ARCHISO_HINT}}"
    probe --set ARCHISO_UUID --fs-uuid "${{root}}"
fi
default=archlinux
timeout=15
menuentry "Arch Linux install medium (x86_64, ${{grub_platform}})" --class arch --id 'archlinux' {{
    linux /arch/boot/x86_64/vmlinuz-linux {ARCH_ARGUMENTS}
    initrd /arch/boot/x86_64/initramfs-linux.img
}}
"""

CLONEZILLA = """set default="0"
set timeout=30
set linux_cmd=linux
set initrd_cmd=initrd
if [ "${grub_platform}" = "efi" -a -n "$shim_lock" ]; then
  set linux_cmd=linuxefi
  set initrd_cmd=initrdefi
fi
menuentry --hotkey=s "Clonezilla live (VGA 800x600)" --id live-default {
  search --set -f /live/vmlinuz
  $linux_cmd /live/vmlinuz boot=live union=overlay ocs_live_run="ocs-live-general" ocs_live_extra_param="" ip= splash
  $initrd_cmd /live/initrd.img
}
"""

XCP_ISOLINUX = """DEFAULT install
PROMPT 1
TIMEOUT 50
LABEL install
    KERNEL mboot.c32
    APPEND /boot/xen.gz dom0_mem=max:8192M com1=115200,8n1 console=com1,vga --- /boot/vmlinuz console=hvc0 console=tty0 --- /install.img
"""
XCP_GRUB = """set timeout=5
menuentry "install" {
    search --set --file /EFI/xenserver
    multiboot2 /boot/xen.gz dom0_mem=max:8192M com1=115200,8n1 console=com1,vga
    module2 /boot/vmlinuz console=hvc0 console=tty0
    module2 /install.img
}
"""

PXEBOOT = ["images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"]
PXEBOOT_KERNEL = ("/images/pxeboot/vmlinuz", ["/images/pxeboot/initrd.img"])
SUSE_FILES = ["boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"]
SUSE_KERNEL = ("/boot/x86_64/loader/linux", ["/boot/x86_64/loader/initrd"])
NIX = "init=/nix/store/x-nixos/init root=LABEL=nixos-minimal loglevel=4"

LAYOUTS = [
    Layout("fedora", "Fedora-S-dvd-x86_64-43", {"EFI/BOOT/grub.cfg": anaconda("Fedora 43", "Fedora-S-dvd-x86_64-43"), "boot/grub2/grub.cfg": anaconda("Fedora 43", "Fedora-S-dvd-x86_64-43")},
           PXEBOOT, (*PXEBOOT_KERNEL, "inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-43 quiet"),
           {"EFI/BOOT/grub.cfg": ["linux /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=Fedora-S-dvd-x86_64-43 quiet site.arg=1", "set timeout=1"]},
           "Fedora", {".treeinfo": "[general]\nfamily = Fedora\nname = Fedora 43\n"}),
    Layout("rhel9", RHEL, {"isolinux/isolinux.cfg": RHEL_ISOLINUX, "EFI/BOOT/grub.cfg": anaconda("RHEL 9.4", RHEL, "efi")},
           ["isolinux/vmlinuz", "isolinux/initrd.img", *PXEBOOT], None,
           {"isolinux/isolinux.cfg": [f"append initrd=initrd.img inst.stage2=hd:LABEL={RHEL} quiet site.arg=1", "timeout 10"],
            "EFI/BOOT/grub.cfg": [f"linuxefi /images/pxeboot/vmlinuz inst.stage2=hd:LABEL={RHEL} quiet site.arg=1"]},
           "Red Hat", {".treeinfo": "[general]\nfamily = Red Hat Enterprise Linux\nname = Red Hat Enterprise Linux 9.4.0\n"}),
    Layout("alma10", "AlmaLinux-10-0-x86_64-dvd", {"boot/grub2/grub.cfg": anaconda("AlmaLinux 10.0", "AlmaLinux-10-0-x86_64-dvd")}, PXEBOOT,
           (*PXEBOOT_KERNEL, "inst.stage2=hd:LABEL=AlmaLinux-10-0-x86_64-dvd quiet"),
           {"boot/grub2/grub.cfg": ["linux /images/pxeboot/vmlinuz inst.stage2=hd:LABEL=AlmaLinux-10-0-x86_64-dvd quiet site.arg=1"]},
           "Red Hat", {".discinfo": "1747000000.1\n10.0\nx86_64\n"}),
    Layout("debian", "Debian 13.1.0 amd64 n", {
        "isolinux/isolinux.cfg": "# D-I config version 2.0\npath \ninclude menu.cfg\ndefault vesamenu.c32\nprompt 0\ntimeout 0\n",
        "isolinux/menu.cfg": "menu hshift 4\ninclude gtk.cfg\ninclude txt.cfg\n",
        "isolinux/gtk.cfg": "label installgui\n\tmenu label ^Graphical install\n\tmenu default\n\tkernel /install.amd/vmlinuz\n\tappend vga=788 initrd=/install.amd/gtk/initrd.gz --- quiet \n",
        "isolinux/txt.cfg": "label install\n\tmenu label ^Install\n\tkernel /install.amd/vmlinuz\n\tappend vga=788 initrd=/install.amd/initrd.gz --- quiet \n",
        "boot/grub/grub.cfg": "source $prefix/theme\nmenuentry --hotkey=g 'Graphical install' {\n    linux    /install.amd/vmlinuz vga=788 --- quiet \n    initrd   /install.amd/gtk/initrd.gz\n}\n"},
        ["install.amd/vmlinuz", "install.amd/initrd.gz", "install.amd/gtk/initrd.gz"], ("/install.amd/vmlinuz", ["/install.amd/gtk/initrd.gz"], "vga=788 --- quiet"),
        {"isolinux/txt.cfg": ["append vga=788 initrd=/install.amd/initrd.gz site.arg=1 --- quiet"], "isolinux/isolinux.cfg": ["timeout 10"],
         "boot/grub/grub.cfg": ["linux    /install.amd/vmlinuz vga=788 site.arg=1 --- quiet"]},
        "Debian", {".disk/info": 'Debian GNU/Linux 13.1.0 "Trixie" - Official amd64 NETINST'}),
    Layout("ubuntu", "Ubuntu-Server 24.04.3 LTS amd64", {
        "boot/grub/grub.cfg": "set timeout=30\n\nmenuentry \"Try or Install Ubuntu Server\" {\n\tset gfxpayload=keep\n\tlinux\t/casper/vmlinuz  ---\n\tinitrd\t/casper/initrd\n}\ngrub_platform\nif [ \"$grub_platform\" = \"efi\" ]; then\nmenuentry 'Boot from next volume' {\n\texit 1\n}\nelse\nmenuentry 'Test memory' {\n\tlinux16 /boot/memtest86+x64.bin\n}\nfi\n",
        "boot/grub/loopback.cfg": "menuentry \"Try or Install Ubuntu Server\" {\n\tlinux\t/casper/vmlinuz  iso-scan/filename=${iso_path} ---\n\tinitrd\t/casper/initrd\n}\n"},
        ["casper/vmlinuz", "casper/initrd"], ("/casper/vmlinuz", ["/casper/initrd"], "---"),
        {"boot/grub/grub.cfg": ["linux\t/casper/vmlinuz site.arg=1 ---", "linux16 /boot/memtest86+x64.bin"]},
        "Ubuntu", {".disk/info": 'Ubuntu-Server 24.04.3 LTS "Noble Numbat" - Release amd64 (20250805.1)'}),
    Layout("leap15", "openSUSE-Leap-15.6-DVD-x86_64710", {"boot/x86_64/loader/isolinux.cfg": SUSE_ISOLINUX, "EFI/BOOT/grub.cfg": SUSE_GRUB}, SUSE_FILES, None,
           {"boot/x86_64/loader/isolinux.cfg": ["default linux", "append initrd=initrd splash=silent showopts site.arg=1", "timeout 10"],
            "EFI/BOOT/grub.cfg": ["linux /boot/x86_64/loader/linux splash=silent site.arg=1", "set default=Installation"]},
           "SUSE", {"media.1/products": "/ openSUSE-Leap 15.6-1\n"}),
    Layout("sles16", "Install-SLES-16.0-x86_64", {"boot/grub2/grub.cfg": AGAMA}, [*SUSE_FILES, "LiveOS/squashfs.img"], (*SUSE_KERNEL, ""),
           {"boot/grub2/grub.cfg": ["linux ($root)/boot/x86_64/loader/linux ${extra_cmdline} ${isoboot} site.arg=1", "set default='Install SLES 16.0'"]}, "Agama"),
    Layout("arch", "ARCH_202611", {
        "boot/syslinux/syslinux.cfg": "DEFAULT select\n\nLABEL select\nCOM32 boot/syslinux/whichsys.c32\nAPPEND -pxe- pxe -sys- sys -iso- sys\n\nLABEL sys\nCONFIG boot/syslinux/archiso_sys.cfg\n",
        "boot/syslinux/archiso_sys.cfg": "DEFAULT arch\nTIMEOUT 150\n\nINCLUDE boot/syslinux/archiso_sys-linux.cfg\n",
        "boot/syslinux/archiso_sys-linux.cfg": f"LABEL arch\nTEXT HELP\nBoot the Arch Linux install medium on BIOS.\nENDTEXT\nMENU LABEL Arch Linux install medium (x86_64, BIOS)\nLINUX /arch/boot/x86_64/vmlinuz-linux\nINITRD /arch/boot/x86_64/initramfs-linux.img\nAPPEND {ARCH_ARGUMENTS}\n",
        "boot/grub/grub.cfg": ARCH_GRUB,
        "loader/entries/01-archiso-linux.conf": ARCH_ENTRY},
        ["arch/boot/x86_64/vmlinuz-linux", "arch/boot/x86_64/initramfs-linux.img"],
        ("/arch/boot/x86_64/vmlinuz-linux", ["/arch/boot/x86_64/initramfs-linux.img"], ARCH_ARGUMENTS),
        {"boot/syslinux/archiso_sys-linux.cfg": [f"APPEND {ARCH_ARGUMENTS} site.arg=1"], "boot/syslinux/archiso_sys.cfg": ["TIMEOUT 10"],
         "boot/grub/grub.cfg": [f"linux /arch/boot/x86_64/vmlinuz-linux {ARCH_ARGUMENTS} site.arg=1"], "loader/entries/01-archiso-linux.conf": [f"options {ARCH_ARGUMENTS} site.arg=1"]},
        "Arch", esp={"loader/loader.conf": "timeout 15\ndefault 01-archiso-linux.conf\n", "loader/entries/01-archiso-linux.conf": ARCH_ENTRY}),
    Layout("alpine", "alpine-virt 3.22.1 x86_64", {
        "boot/syslinux/syslinux.cfg": "TIMEOUT 10\nPROMPT 1\nDEFAULT virt\n\nLABEL virt\nMENU LABEL Linux virt\nKERNEL /boot/vmlinuz-virt\nINITRD /boot/initramfs-virt\nFDTDIR /boot/dtbs-virt\nAPPEND modules=loop,squashfs,sd-mod,usb-storage quiet \n",
        "boot/grub/grub.cfg": "set timeout=1\n\nmenuentry \"Linux virt\" {\nlinux\t/boot/vmlinuz-virt modules=loop,squashfs,sd-mod,usb-storage quiet \ninitrd\t/boot/initramfs-virt\n}\n"},
        ["boot/vmlinuz-virt", "boot/initramfs-virt"], ("/boot/vmlinuz-virt", ["/boot/initramfs-virt"], "modules=loop,squashfs,sd-mod,usb-storage quiet"),
        {"boot/syslinux/syslinux.cfg": ["APPEND modules=loop,squashfs,sd-mod,usb-storage quiet site.arg=1"], "boot/grub/grub.cfg": ["linux\t/boot/vmlinuz-virt modules=loop,squashfs,sd-mod,usb-storage quiet site.arg=1"]},
        "Alpine", {".alpine-release": "alpine-virt-3.22.1 250715\n"}),
    Layout("nixos", "nixos-minimal-25.05-x86_64", {
        "isolinux/isolinux.cfg": f"SERIAL 0 115200\nTIMEOUT 100\nUI vesamenu.c32\nDEFAULT boot\n\nLABEL boot\nMENU LABEL NixOS 25.05 Installer\nLINUX /boot/bzImage\nAPPEND {NIX}\nINITRD /boot/initrd\n\nLABEL memtest\nMENU LABEL Memtest86+\nLINUX /boot/memtest.bin\n",
        "EFI/BOOT/grub.cfg": f"set timeout=10\nif [ \"${{iso_path}}\" ] ; then\n  set isoboot=\"findiso=${{iso_path}}\"\nfi\nmenuentry 'NixOS 25.05 Installer '  --class installer {{\n  # Fallback to UEFI console\n  terminal_output console\n  linux /boot/bzImage ${{isoboot}} {NIX}\n  initrd /boot/initrd\n}}\n"},
        ["boot/bzImage", "boot/initrd"], ("/boot/bzImage", ["/boot/initrd"], NIX),
        {"isolinux/isolinux.cfg": [f"APPEND {NIX} site.arg=1"], "EFI/BOOT/grub.cfg": [f"linux /boot/bzImage ${{isoboot}} {NIX} site.arg=1"]},
        "NixOS", {"nix-store.squashfs": "x"}),
    Layout("proxmox", "PVE", {
        "boot/grub/grub.cfg": "insmod gfxterm\nmenuentry 'Install Proxmox VE (Graphical)' --class debian {\n    echo 'Loading Proxmox VE Installer ...'\n    linux $prefix/../linux26 ro ramdisk_size=16777216 rw quiet splash=silent\n    initrd $prefix/../initrd.img\n}\nsubmenu 'Advanced Options' {\n    menuentry 'Rescue Boot' {\n        search --label --set=root rpool\n        linux /ROOT/pve-1@/boot/pve/vmlinuz ro\n        initrd /ROOT/pve-1@/boot/pve/initrd.img\n    }\n}\n"},
        ["boot/linux26", "boot/initrd.img"], ("/boot/linux26", ["/boot/initrd.img"], "ro ramdisk_size=16777216 rw quiet splash=silent"),
        {"boot/grub/grub.cfg": ["linux $prefix/../linux26 ro ramdisk_size=16777216 rw quiet splash=silent site.arg=1"]}, "Proxmox", {".pve-cd-id.txt": "x"}),
    Layout("xcp-ng", "XCP-ng 8.3.0", {"boot/isolinux/isolinux.cfg": XCP_ISOLINUX, "EFI/xenserver/grub.cfg": XCP_GRUB}, ["boot/xen.gz", "boot/vmlinuz", "install.img"], None,
           {"boot/isolinux/isolinux.cfg": ["com1=115200,8n1 console=com1,vga --- /boot/vmlinuz console=hvc0 console=tty0 site.arg=1 --- /install.img"],
            "EFI/xenserver/grub.cfg": ["console=com1,vga\n", "module2 /boot/vmlinuz console=hvc0 console=tty0 site.arg=1"]}),
    Layout("clonezilla", "3.2.2-15-amd64", {"boot/grub/grub.cfg": CLONEZILLA}, ["live/vmlinuz", "live/initrd.img", "live/filesystem.squashfs"],
           ("/live/vmlinuz", ["/live/initrd.img"], "boot=live union=overlay ocs_live_run=ocs-live-general ocs_live_extra_param= ip= splash"),
           {"boot/grub/grub.cfg": ["ip= splash site.arg=1"]}, "Debian"),
    Layout("systemrescue", "RESCUE1200", {
        "isolinux/isolinux.cfg": "PATH /sysresccd/boot/syslinux/\nDEFAULT loadconfig\n\nLABEL loadconfig\n  CONFIG /sysresccd/boot/syslinux/sysresccd.cfg\n  APPEND /sysresccd/\n",
        "sysresccd/boot/syslinux/sysresccd.cfg": "TIMEOUT 900\nDEFAULT sysresccd\nLABEL sysresccd\nMENU LABEL Boot SystemRescue using ^default options\nLINUX boot/x86_64/vmlinuz\nINITRD boot/intel_ucode.img,boot/x86_64/sysresccd.img\nAPPEND archisobasedir=sysresccd archisolabel=RESCUE1200 iomem=relaxed\n",
        "boot/grub/grubsrcd.cfg": "set default=0\nset fallback=1\nmenuentry \"Boot SystemRescue using default options\" {\n\tlinux\t/sysresccd/boot/x86_64/vmlinuz archisobasedir=sysresccd archisolabel=RESCUE1200 iomem=relaxed\n\tinitrd\t/sysresccd/boot/intel_ucode.img /sysresccd/boot/x86_64/sysresccd.img\n}\n"},
        ["sysresccd/boot/x86_64/vmlinuz", "sysresccd/boot/intel_ucode.img", "sysresccd/boot/x86_64/sysresccd.img"],
        ("/sysresccd/boot/x86_64/vmlinuz", ["/sysresccd/boot/intel_ucode.img", "/sysresccd/boot/x86_64/sysresccd.img"], "archisobasedir=sysresccd archisolabel=RESCUE1200 iomem=relaxed"),
        {"sysresccd/boot/syslinux/sysresccd.cfg": ["APPEND archisobasedir=sysresccd archisolabel=RESCUE1200 iomem=relaxed site.arg=1", "TIMEOUT 10"],
         "boot/grub/grubsrcd.cfg": ["linux\t/sysresccd/boot/x86_64/vmlinuz archisobasedir=sysresccd archisolabel=RESCUE1200 iomem=relaxed site.arg=1"]}, "GRUB"),
]
# Two kernels are as good: those of ISOLINUX's directory and of GRUB's.
EITHER = {
    "rhel9": [("/isolinux/vmlinuz", ["/isolinux/initrd.img"], f"inst.stage2=hd:LABEL={RHEL} quiet"), (*PXEBOOT_KERNEL, f"inst.stage2=hd:LABEL={RHEL} quiet")],
    "leap15": [(*SUSE_KERNEL, "splash=silent showopts"), (*SUSE_KERNEL, "splash=silent")],
}
