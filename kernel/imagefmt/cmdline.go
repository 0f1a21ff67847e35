package imagefmt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// CommandLineArea is the command line's area, CommandLineSectors long.
func CommandLineArea(line string) ([]byte, error) {
	if len(line) > MaxCommandLine {
		return nil, fmt.Errorf("imagefmt: command line of %d bytes: at most %d fit", len(line), MaxCommandLine)
	}
	if i := strings.IndexByte(line, 0); i >= 0 {
		return nil, fmt.Errorf("imagefmt: command line: NUL at byte %d", i)
	}
	b := make([]byte, CommandLineSectors*SectorBytes)
	copy(b, lineMagic)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(line)))
	copy(b[lineText:], line)
	binary.LittleEndian.PutUint32(b[8:], lineCRC(b, len(line)))
	return b, nil
}

// ParseCommandLine reads such an area.
func ParseCommandLine(b []byte) (string, error) {
	if len(b) < CommandLineSectors*SectorBytes || string(b[:8]) != lineMagic {
		return "", errors.New("imagefmt: no command line where the header says")
	}
	n := binary.LittleEndian.Uint32(b[12:])
	if n > MaxCommandLine {
		return "", fmt.Errorf("imagefmt: command line of %d bytes: at most %d fit", n, MaxCommandLine)
	}
	if got, want := lineCRC(b, int(n)), binary.LittleEndian.Uint32(b[8:]); got != want {
		return "", fmt.Errorf("imagefmt: command line: CRC-32 %08x, want %08x", got, want)
	}
	return string(b[lineText : lineText+int(n)]), nil
}

// lineCRC covers the length and the text.
func lineCRC(b []byte, n int) uint32 { return crc32.ChecksumIEEE(b[12 : lineText+n]) }

// ReadCommandLine returns the command line stored on a raw disk.
func ReadCommandLine(disk io.ReaderAt) (string, error) {
	at, h, err := Find(disk)
	if err != nil {
		return "", err
	}
	b := make([]byte, CommandLineSectors*SectorBytes)
	if _, err := disk.ReadAt(b, at+int64(h.CommandLine)*SectorBytes); err != nil {
		return "", fmt.Errorf("imagefmt: command line: %w", err)
	}
	return ParseCommandLine(b)
}

// SetCommandLine stores line on a raw disk. Where the process dies half-way the
// loaders find a bad CRC and say so; the rest of the image stays as it is. The old
// command line need not be readable.
func SetCommandLine(disk interface {
	io.ReaderAt
	io.WriterAt
}, line string) error {
	area, err := CommandLineArea(line)
	if err != nil {
		return err
	}
	at, h, err := Find(disk)
	if err != nil {
		return err
	}
	if _, err := disk.WriteAt(area, at+int64(h.CommandLine)*SectorBytes); err != nil {
		return fmt.Errorf("imagefmt: command line: %w", err)
	}
	return nil
}
