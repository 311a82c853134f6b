package cli

import (
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/permafrost-ml/permafrost/sink/qdrant/qdranttest"
)

// qdrantServer is the key of a script's server.
type qdrantServer struct{}

// scriptQdrant prepares the script's server, whose address becomes $QDRANT and
// which answers request FAIL with 503, or checks how many points it holds and
// how many upserts there were: qdrant start KEY FAIL, qdrant holds POINTS
// UPSERTS.
func scriptQdrant(ts *testscript.TestScript, neg bool, args []string) {
	s := ts.Value(qdrantServer{}).(*qdranttest.Server)
	switch {
	case len(args) == 3 && args[0] == "start":
		fail, err := strconv.Atoi(args[2])
		ts.Check(err)
		s.Key = args[1]
		s.Fail(func(n int, _ qdranttest.Request) qdranttest.Fault {
			if n == fail {
				return qdranttest.Unavailable
			}
			return qdranttest.None
		})
		ts.Setenv("QDRANT", strings.TrimPrefix(s.URL, "http://"))
	case len(args) == 3 && args[0] == "holds" && !neg:
		if points, upserts := len(s.Points()), len(s.Upserts()); strconv.Itoa(points) != args[1] || strconv.Itoa(upserts) != args[2] {
			ts.Fatalf("%d points of %d upserts, want %s of %s", points, upserts, args[1], args[2])
		}
	default:
		ts.Fatalf("usage: qdrant start KEY FAIL, qdrant holds POINTS UPSERTS")
	}
}
