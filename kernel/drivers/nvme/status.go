package nvme

import (
	"fmt"

	"osv/kernel/blk"
)

// status is the status field of a completion, Base 2.0 §3.3.3.2.1: SC in bits
// 7:0, SCT in 10:8, CRD in 12:11, M in bit 13, DNR in bit 14.
type status uint16

func (s status) ok() bool  { return s&0x7ff == 0 }
func (s status) sct() int  { return int(s >> 8 & 7) }
func (s status) sc() uint8 { return uint8(s) }

const (
	codeMask = 0x7ff

	// Generic command status, figure 94; NVM Command Set 1.0 figure 4.
	statusInvalidOpcode    status = 0x001
	statusInvalidField     status = 0x002
	statusDataTransfer     status = 0x004
	statusPowerLoss        status = 0x005
	statusInternal         status = 0x006
	statusAbortRequested   status = 0x007
	statusSQDeleted        status = 0x008
	statusInvalidNamespace status = 0x00b
	statusWriteProtected   status = 0x020
	statusLBARange         status = 0x080
	statusCapacity         status = 0x081
	statusNotReady         status = 0x082

	// Command specific status, figure 95.
	statusConflicting  status = 0x180
	statusReadOnlyArea status = 0x182

	// Media and data integrity errors, figure 96.
	statusWriteFault     status = 0x280
	statusUnrecovered    status = 0x281
	statusGuardCheck     status = 0x282
	statusCompareFailure status = 0x285
	statusAccessDenied   status = 0x286
	statusDeallocated    status = 0x287
)

// statuses says for each that is known what it means to the caller.
var statuses = map[status]struct {
	why  error
	text string
}{
	statusInvalidOpcode:    {blk.ErrUnsupported, "invalid command opcode"},
	statusInvalidField:     {blk.ErrUnsupported, "invalid field in command"},
	statusDataTransfer:     {blk.ErrIO, "data transfer error"},
	statusPowerLoss:        {blk.ErrReset, "aborted for loss of power"},
	statusInternal:         {blk.ErrIO, "internal error"},
	statusAbortRequested:   {blk.ErrReset, "abort requested"},
	statusSQDeleted:        {blk.ErrReset, "aborted, the queue was deleted"},
	statusInvalidNamespace: {blk.ErrGone, "invalid namespace"},
	statusWriteProtected:   {blk.ErrReadOnly, "namespace is write protected"},
	statusLBARange:         {blk.ErrRange, "LBA out of range"},
	statusCapacity:         {blk.ErrIO, "capacity exceeded"},
	statusNotReady:         {blk.ErrIO, "namespace not ready"},
	statusConflicting:      {blk.ErrUnsupported, "conflicting attributes"},
	statusReadOnlyArea:     {blk.ErrReadOnly, "write to a read-only range"},
	statusWriteFault:       {blk.ErrIO, "write fault"},
	statusUnrecovered:      {blk.ErrIO, "unrecovered read error"},
	statusGuardCheck:       {blk.ErrIO, "guard check error"},
	statusCompareFailure:   {blk.ErrIO, "compare failure"},
	statusAccessDenied:     {blk.ErrIO, "access denied"},
	statusDeallocated:      {blk.ErrIO, "deallocated or unwritten block"},
}

func (s status) String() string {
	t := statuses[s&codeMask].text
	if t == "" {
		t = "unknown"
	}
	return fmt.Sprintf("status %d/%02xh: %s", s.sct(), s.sc(), t)
}

// why is the border's word for a status that is not ok.
func (s status) why() error {
	if e, ok := statuses[s&codeMask]; ok {
		return e.why
	}
	return blk.ErrIO
}
