//! Scripts that stand for a distribution's tools: each writes down its call, and leaves the same files as the
//! real one.
//!
//! They run in the clone under busybox' shell. An image that a script makes holds the configuration that the
//! real tool would read, so that a search of the clone looks into it, too.

/// dracut(8): `--force IMAGE RELEASE`.
pub(super) const DRACUT: &str = r#"#!/bin/sh
echo "dracut $*" >> /root/calls
[ "$1" = --force ] && [ -d "/lib/modules/$3" ] || { echo "dracut: bad arguments: $*" >&2; exit 1; }
{ echo "dracut's image of $3"
  cat /etc/dracut.conf /etc/dracut.conf.d/*.conf /etc/fstab /etc/crypttab /etc/cmdline.d/*.conf; } > "$2" 2>/dev/null
exit 0
"#;

/// mkinitcpio(8) of Arch: `-P` makes the images of all presets.
pub(super) const MKINITCPIO: &str = r#"#!/bin/sh
echo "mkinitcpio $*" >> /root/calls
[ "$1" = -P ] || { echo "mkinitcpio: bad arguments: $*" >&2; exit 1; }
for image in $(sed -n 's/^[a-z]*_image="\(.*\)"/\1/p' /etc/mkinitcpio.d/*.preset); do
  { echo "mkinitcpio's image"; cat /etc/mkinitcpio.conf; } > "$image"
done
exit 0
"#;

/// Debian's update-initramfs(8): `-u -k RELEASE`.
pub(super) const UPDATE_INITRAMFS: &str = r#"#!/bin/sh
echo "update-initramfs $*" >> /root/calls
[ "$2" = -k ] || { echo "update-initramfs: bad arguments: $*" >&2; exit 1; }
{ echo "initramfs-tools' image of $3"; cat /etc/initramfs-tools/modules /etc/initramfs-tools/conf.d/*; } \
  > "/boot/initrd.img-$3" 2>/dev/null
exit 0
"#;

/// Alpine's mkinitfs(1).
pub(super) const MKINITFS: &str = r#"#!/bin/sh
echo "mkinitfs $*" >> /root/calls
out= release=
while [ $# -gt 0 ]; do
  case "$1" in -o) out=$2; shift ;; -c|-b|-F) shift ;; -*) ;; *) release=$1 ;; esac
  shift
done
[ -d "/lib/modules/$release" ] || { echo "mkinitfs: no modules of $release" >&2; exit 1; }
. /etc/mkinitfs/mkinitfs.conf
{ echo "mkinitfs' image of $release: $features"
  for feature in $features; do cat "/etc/mkinitfs/features.d/$feature.modules"; done; } > "${out:-/boot/initramfs-${release##*-}}" 2>/dev/null
exit 0
"#;

/// `grub-install` for a BIOS: boot code on the disk, a core image beside its modules.
pub(super) const GRUB_INSTALL: &str = r#"#!/bin/sh
tool=${0##*/}
echo "$tool $*" >> /root/calls
for disk; do :; done
case "$1" in --target=i386-pc) ;; *) echo "$tool: bad target $1" >&2; exit 1 ;; esac
[ -b "$disk" ] || { echo "$tool: $disk is no disk" >&2; exit 1; }
dir=/boot/grub; [ -d /boot/grub2 ] && dir=/boot/grub2
mkdir -p $dir/i386-pc
grep ' /boot \| / ' /proc/mounts | tail -n 1 > $dir/i386-pc/core.img
printf GRUB | dd of="$disk" bs=1 seek=384 conv=notrunc 2>/dev/null
"#;

/// `grub-mkconfig`: it learns about the root file system from the kernel's list of mounts and udev's links.
pub(super) const GRUB_MKCONFIG: &str = r##"#!/bin/sh
tool=${0##*/}
echo "$tool $*" >> /root/calls
[ "$1" = -o ] || { echo "$tool: bad arguments: $*" >&2; exit 1; }
device=$(awk '$2 == "/" && $1 ~ "^/dev/" { print $1; exit }' /proc/mounts)
subvolume=$(awk '$2 == "/" && $1 ~ "^/dev/" { print $4; exit }' /proc/mounts | sed -n 's,.*subvol=/\([^ ]*\).*,\1,p')
uuid=
for link in /dev/disk/by-uuid/*; do
  [ "$(readlink -f "$link")" = "$device" ] && uuid=${link##*/}
done
[ -n "$uuid" ] || { echo "$tool: no UUID of $device" >&2; exit 1; }
. /etc/default/grub
root=root=UUID=$uuid
[ "$GRUB_DISABLE_LINUX_UUID" = true ] && root=root=$device
[ -n "$subvolume" ] && root="$root rootflags=subvol=$subvolume"
{
  echo "# made by $tool"
  echo "search --no-floppy --fs-uuid --set=root $uuid"
  if [ "$GRUB_ENABLE_BLSCFG" = true ]; then
    printf 'insmod blscfg\nblscfg\n'
  else
    for kernel in /boot/vmlinuz-* /boot/kernel-*; do
      [ -f "$kernel" ] && printf "menuentry '%s' {\n\tlinux %s %s ro %s %s\n}\n" "$kernel" "$kernel" "$root" "$GRUB_CMDLINE_LINUX" "$GRUB_CMDLINE_LINUX_DEFAULT"
    done
  fi
  for script in /etc/grub.d/40_custom /etc/grub.d/41_custom; do
    [ -x "$script" ] && tail -n +3 "$script"
  done
} > "$2"
exit 0
"##;

/// `extlinux --install DIRECTORY`.
pub(super) const EXTLINUX: &str = r#"#!/bin/sh
echo "extlinux $*" >> /root/calls
[ "$1" = --install ] && [ -d "$2" ] || { echo "extlinux: bad arguments: $*" >&2; exit 1; }
echo "the second stage" > "$2/ldlinux.sys"
"#;

/// lilo(8): it looks up what `/etc/lilo.conf` names.
pub(super) const LILO: &str = r#"#!/bin/sh
echo "lilo $*" >> /root/calls
boot=$(sed -n 's/^ *boot *= *//p' /etc/lilo.conf | tr -d '"\r')
[ -b "$boot" ] || { echo "lilo: $boot is no block device" >&2; exit 1; }
for root in $(sed -n 's/^ *root *= *//p' /etc/lilo.conf | tr -d '"\r'); do
  case $root in
    UUID=*|LABEL=*) ;;
    *) [ -b "$root" ] || { echo "lilo: $root is no block device" >&2; exit 1; } ;;
  esac
done
for image in $(sed -n 's/^ *image *= *//p' /etc/lilo.conf | tr -d '"\r'); do
  [ -f "$image" ] || { echo "lilo: no $image" >&2; exit 1; }
done
printf LILO | dd of="$boot" bs=1 seek=6 conv=notrunc 2>/dev/null
echo "the map of $boot" > /boot/map
"#;
