// Package rest is the guest's management server: OSv's REST API with its Swagger
// listings, the pages that show it, metrics, profiles, and the rules of who may do
// what.
//
// Spec: the API of OSv 0.06 and later (modules/httpserver-api); openapi.json, which
// is an OpenAPI 3.0.3 document and the source of all routes, parameters and access
// rules; Swagger 1.2 for /api; Prometheus' text exposition format 0.0.4; profile.proto
// of pprof. Not covered: HTTP/2, the redirects and file_mappings of httpserver.conf.
//
// Who may use it: kernel/platform/manage, which joins it with the machine, and
// kernel/rest/hosted for a process. It may not reach for the machine: all that it
// tells comes from a machine.Machine, from kernel/trace and from the Go runtime.
//
// A request passes, in this order (server.go):
//
//	listener   limit of connections, all and of one client   listener.go
//	net/http   header size, time for headers, body, answer
//	guard      Host, rate of one client, Origin              guard.go
//	router     path and method → operation of the document   router.go
//	auth       what the operation asks for                   auth.go
//	call       parameters as the document has them           call.go
//	handler    os.go, network.go, file.go, …
//
// Start reading at Config, then Server.ServeHTTP.
package rest

import "osv/kernel/trace"

var log = trace.For("rest")
