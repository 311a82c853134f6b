package cli

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/permafrost-ml/permafrost/internal/human"
)

// table prints rows of cells in aligned columns; it returns the first error
// of writing.
func table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

func count(n int64) string { return human.Count(n) }

func size(n int64) string { return human.Size(n) }

func span(seconds float64) string { return human.Span(seconds) }

func plural(n int64, one, many string) string { return human.Plural(n, one, many) }

// rate is per second, 0 where no time has passed.
func rate(n int64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}

// short is the beginning of a fingerprint.
func short(fingerprint string) string { return fingerprint[:min(12, len(fingerprint))] }
