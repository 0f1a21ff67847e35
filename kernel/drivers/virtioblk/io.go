package virtioblk

import (
	"bytes"

	"osv/kernel/blk"
	"osv/kernel/hw/dma"
)

// ID is the device's serial number, up to 20 bytes, §5.2.6.
func (d *Device) ID() (string, error) {
	id := make([]byte, idLen)
	err := blk.Do(func(r *Request) {
		r.Reset(0, 0)
		d.enqueue(r)
	}, &Request{Op: opGetID, Mem: []dma.Region{{Bytes: id}}})
	if err != nil {
		return "", err
	}
	if i := bytes.IndexByte(id, 0); i >= 0 {
		id = id[:i]
	}
	return string(id), nil
}
