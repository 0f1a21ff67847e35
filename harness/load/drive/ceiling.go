package drive

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"osv/harness/load"
	"osv/harness/load/null"
)

// Ceiling is the rate, in requests a second, that the generator of a spec
// reaches against the null server on loopback, closed loop, same connections and
// outstanding requests. 0 where there is no null server for the kind.
func Ceiling(ctx context.Context, spec load.Spec, d time.Duration) (float64, error) {
	spec = spec.WithDefaults()
	if spec.Echo {
		return 0, nil
	}
	spec.Idle = 0
	listen := null.ListenTCP
	switch spec.Kind {
	case load.MemcachedUDP:
		listen = null.ListenUDP
	case load.MemcachedTCP:
	default:
		return 0, nil
	}
	it, err := Items(spec)
	if err != nil {
		return 0, err
	}
	s, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), it)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	spec.Target = s.Addr.String()
	spec.Mode, spec.NoPopulate = load.Closed, true
	spec.Outstanding = min(spec.Outstanding, 128)
	spec.Warmup, spec.Duration = load.Duration(d/4), load.Duration(d)
	r, err := Run(ctx, spec, Options{NoReadback: true})
	if err != nil {
		return 0, fmt.Errorf("drive: null server: %w", err)
	}
	return r.Rate, nil
}
