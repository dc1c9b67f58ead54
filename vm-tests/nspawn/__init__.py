"""Machines without Nix, in the calls of the NixOS test driver: systemd-nspawn containers of Debian with the
package installed. Standard library only."""
