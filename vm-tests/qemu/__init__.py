"""Machines of QEMU that boot the disk image of `make qcow2`, beside or in place of containers. Standard library
only."""
