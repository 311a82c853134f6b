package human

import (
	"math"
	"testing"
)

func TestTexts(t *testing.T) {
	tests := []struct{ got, want string }{
		{Count(0), "0"},
		{Count(999), "999"},
		{Count(1000), "1,000"},
		{Count(-1234567), "-1,234,567"},
		{Count(math.MinInt64), "-9,223,372,036,854,775,808"},
		{Size(-1), "unknown"},
		{Size(0), "0 B"},
		{Size(999), "999 B"},
		{Size(1000), "1 kB"},
		{Size(999_600), "1 MB"},
		{Size(4_200_000), "4.2 MB"},
		{Size(math.MaxInt64), "9.22e+03 PB"},
		{Span(0.01234), "0.0123 s"},
		{Span(99.9), "99.9 s"},
		{Span(200), "3m20s"},
		{Span(math.Inf(1)), "?"},
		{Span(math.NaN()), "?"},
		{Line("two\nlines\tx", 40), "two lines x"},
		{Line("0123456789012345678901234567890123456789", 40), "0123456789012345678901234567890123456789"},
		{Line("01234567890123456789012345678901234567890", 40), "012345678901234567890123456789012345678…"},
		{Plural(1, "row", "rows"), "row"},
		{Plural(0, "row", "rows"), "rows"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}
