package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"osv/harness/guest/linux"
)

// The HTTP cells compare the systems under one Go program, built from one source
// without a change: the standard library's server on the guest's own sockets. For
// Linux it is a static program (build tag hosted), for OSv the image itself.

// httpService is what the Linux guest runs for it.
var httpService = linux.Service{Name: "http", Ports: []string{"tcp:80"}, Argv: func(int) []string { return []string{"/bin/httpd"} }}

// linuxService is a service as the Linux guest knows it.
func linuxService(name string) (linux.Service, bool) {
	if name == httpService.Name {
		return httpService, true
	}
	s, ok := linux.Services[name]
	return s, ok && name != linux.None.Name
}

// httpd is the file of the program.
func (k *Linux) httpd() string {
	if k.Images != "" {
		return filepath.Join(k.Images, "httpd")
	}
	return filepath.Join(k.Cache, "httpd")
}

// canHTTP reports why the guest cannot run the server.
func (k *Linux) canHTTP() error {
	if k.Images == "" {
		return nil
	}
	if _, err := os.Stat(k.httpd()); err != nil {
		return fmt.Errorf("no HTTP server for Linux: %w", err)
	}
	return nil
}

// buildHTTP compiles the program, where it was not built elsewhere.
func (k *Linux) buildHTTP(ctx context.Context) error {
	if k.Images != "" {
		return nil
	}
	out := k.httpd()
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	tmp := fmt.Sprintf("%s.%d", out, os.Getpid())
	defer os.Remove(tmp)
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-tags=hosted", "-o", tmp, "./"+appliances[httpService.Name])
	cmd.Dir = k.Module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("bench: HTTP server for Linux: %w\n%s", err, text)
	}
	if err := os.Rename(tmp, out); err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	return nil
}

// prepareHTTP adds the program to the image once a run; k.mu is held.
func (k *Linux) prepareHTTP(ctx context.Context) error {
	if k.http != nil {
		return nil
	}
	k.log("building the HTTP server for Linux")
	if err := k.buildHTTP(ctx); err != nil {
		return err
	}
	prog, err := os.ReadFile(k.httpd())
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	img, err := k.img.WithProgram("httpd", prog)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	k.http = &img
	return nil
}
