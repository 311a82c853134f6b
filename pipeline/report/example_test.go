package report_test

import (
	"bytes"
	"fmt"
	"log"
	"strings"

	"github.com/permafrost-ml/permafrost/pipeline/report"
)

func ExampleWrite() {
	var page bytes.Buffer
	err := report.Write(&page, &report.Data{
		SchemaVersion: 1,
		Train:         report.Train{Split: "train", Rows: 1000, Head: report.Module{Type: "skip_connection"}, Loss: report.Module{Type: "softmax"}},
		Epochs:        []report.Epoch{{Epoch: 0, Loss: 2.5, Seconds: 0.1}, {Epoch: 1, Loss: 1.5, Seconds: 0.1}},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(strings.Count(page.String(), "<polyline"), "charts")
	// Output: 2 charts
}
