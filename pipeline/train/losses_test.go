package train_test

import (
	"encoding/json"
	"testing"

	"github.com/permafrost-ml/permafrost/pipeline/head"
	"github.com/permafrost-ml/permafrost/pipeline/loss"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// TestLossesLearn: every loss, with its memory of earlier batches too, falls as
// a head is trained.
func TestLossesLearn(t *testing.T) {
	pairs, groups := toyPairs(200, 16, 64), toyGroups(200, 16, 6, 64)
	for _, c := range []struct{ typ, params string }{
		{"multiple_negatives_ranking", `{"xbm":{"size":150,"weight":0.2}}`},
		{"info_nce", `{"distance":"euclidean","temperature":0.1}`},
		{"triplet", `{"mining":"all"}`},
		{"triplet", `{"mining":"semi_hard","xbm":{"size":150,"weight":0.2}}`},
		{"triplet", `{"variant":"quaterion"}`},
		{"online_contrastive", `{"mining":"all","xbm":{"size":150,"weight":0.2}}`},
		{"circle", `{"scale_factor":16}`},
		{"fast_ap", `{}`},
		{"arc_face", `{"scale":16,"margin":0.2}`},
		{"cos_face", `{"scale":16}`},
		{"sum", `{"losses":[{"type":"softmax","temperature":1},{"type":"center","weight":0.1}]}`},
		{"matryoshka", `{"dims":[16,8],"loss":{"type":"multiple_negatives_ranking"}}`},
	} {
		l, err := loss.Parse(c.typ, json.RawMessage(c.params))
		if err != nil {
			t.Fatal(err)
		}
		data := pairs
		if l.Kind() == loss.Groups {
			data = groups
		}
		res, err := train.Fit(t.Context(), data, head.SkipConnection{}, l, train.Options{Epochs: 60, Optimizer: train.Adam{LR: 2e-2}})
		if err != nil {
			t.Errorf("%s %s: %v", c.typ, c.params, err)
			continue
		}
		t.Logf("%s %s: loss %.3f to %.3f", c.typ, c.params, res.FirstLoss(), res.FinalLoss())
		if !(res.FinalLoss() < 0.5*res.FirstLoss()) {
			t.Errorf("%s %s: the loss went from %v to %v", c.typ, c.params, res.FirstLoss(), res.FinalLoss())
		}
	}
}
