package bench

import (
	"context"
	"fmt"
	"os"

	"osv/harness/guest/linux"
)

// The HTTP cells compare the systems under one Go program, built from one source
// without a change: the standard library's server on the guest's own sockets. For
// Linux it is a static program (build tag hosted), for OSv the image itself.

// httpd is the program's name.
const httpd = "httpd"

// httpService is what the Linux guest runs for it.
var httpService = linux.Service{Name: "http", Ports: []string{"tcp:80"}, Argv: func(int) []string { return []string{"/bin/" + httpd} }}

// linuxService is a service as the Linux guest knows it.
func linuxService(name string) (linux.Service, bool) {
	if name == httpService.Name {
		return httpService, true
	}
	s, ok := linux.Services[name]
	return s, ok && name != linux.None.Name
}

// canHTTP reports why the guest cannot run the server.
func (k *Linux) canHTTP() error { return k.have(httpd, "HTTP server for Linux") }

// buildHTTP compiles the program, where it was not built elsewhere.
func (k *Linux) buildHTTP(ctx context.Context) error {
	if k.Images != "" {
		return nil
	}
	if err := linux.BuildProgram(ctx, k.Module, appliances[httpService.Name], k.program(httpd), "-tags=hosted"); err != nil {
		return fmt.Errorf("bench: HTTP server: %w", err)
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
	prog, err := os.ReadFile(k.program(httpd))
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	img, err := k.img.WithProgram(httpd, prog)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	k.http = &img
	return nil
}
