package vfs

import "slices"

// Cap is one of the capabilities of capabilities(7), by number.
type Cap uint

// The capabilities that decide about files.
const (
	CapChown         Cap = 0
	CapDACOverride   Cap = 1 // reads, writes and (where any x is set) executes anything
	CapDACReadSearch Cap = 2 // reads any file, searches any directory
	CapFOwner        Cap = 3 // counts as the owner of any file
	CapFSetID        Cap = 4 // keeps set-group-ID bits
	CapSysChroot     Cap = 18
	CapSysAdmin      Cap = 21
	CapMknod         Cap = 27

	// AllCaps are all that Linux 6.1 knows, 0 to 40.
	AllCaps uint64 = 1<<41 - 1
)

// Creds are who a thread is: credentials(7). A Creds that others can see is never
// changed; a call such as setuid makes a copy and puts it in place.
type Creds struct {
	UID, EUID, SUID, FSUID uint32
	GID, EGID, SGID, FSGID uint32
	Groups                 []uint32 // supplementary, ascending

	// Sets of capabilities, bit 1<<Cap.
	Effective, Permitted, Inheritable, Bounding, Ambient uint64
}

// RootCreds are those of user 0 with all capabilities.
func RootCreds() *Creds {
	return &Creds{Effective: AllCaps, Permitted: AllCaps, Bounding: AllCaps}
}

// UserCreds are those of an ordinary user without capabilities.
func UserCreds(uid, gid uint32, groups ...uint32) *Creds {
	g := slices.Clone(groups)
	slices.Sort(g)
	return &Creds{
		UID: uid, EUID: uid, SUID: uid, FSUID: uid,
		GID: gid, EGID: gid, SGID: gid, FSGID: gid,
		Groups: g, Bounding: AllCaps,
	}
}

// Clone is a copy to be changed. Groups are shared: they are replaced, not changed.
func (c *Creds) Clone() *Creds {
	d := *c
	return &d
}

// Has says whether the capability is effective.
func (c *Creds) Has(k Cap) bool { return c.Effective>>k&1 != 0 }

// InGroup says whether gid is the file system group or one of the others.
func (c *Creds) InGroup(gid uint32) bool {
	if c.FSGID == gid {
		return true
	}
	_, ok := slices.BinarySearch(c.Groups, gid)
	return ok
}

// real is who access(2) asks for: the real user, with root's rights over files if
// that is user 0 and without if not.
func (c *Creds) real() *Creds {
	const dac = 1<<CapDACOverride | 1<<CapDACReadSearch
	eff := c.Effective &^ dac
	if c.UID == 0 {
		eff = c.Permitted
	}
	if c.FSUID == c.UID && c.FSGID == c.GID && eff&dac == c.Effective&dac {
		return c
	}
	d := c.Clone()
	d.FSUID, d.FSGID, d.Effective = c.UID, c.GID, eff
	return d
}
