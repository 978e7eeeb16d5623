package nameserver

// nextSerial is the serial of the zones at a revision: its last 32 bits, or,
// should those not be newer in the arithmetic of RFC 1982 than the serial in
// force, which takes a jump of two thousand million revisions, that one's
// successor.
func nextSerial(old *table, revision int64) uint32 {
	serial := uint32(revision) //nolint:gosec // the last 32 bits are meant
	if old == nil {
		return serial
	}
	if ahead := serial - old.serial; ahead == 0 || ahead >= 1<<31 {
		return old.serial + 1
	}
	return serial
}
