package vm

import (
	"fmt"
	"os"
)

// UserGDBPort is the debugger port of the calling user: two users of one machine
// do not meet.
func UserGDBPort() int { return 25000 + os.Getuid()%5000 }

// GDBScript is a GDB command file that joins a held machine: symbols of the
// kernel ELF, a connection to port, a stop at main.main. Hardware breakpoints,
// since the code is not yet in memory when the machine is held.
func GDBScript(kernel string, port int) string {
	return fmt.Sprintf(`set confirm off
set pagination off
set architecture i386:x86-64
file %s
target remote 127.0.0.1:%d
hbreak main.main
echo stopped before the first instruction; "continue" runs to main.main\n
`, kernel, port)
}
