// Package report writes the page report.html of an output folder: how a
// training went, for people.
//
// The page is one file that asks for nothing else: no script, font, image or
// network. Charts are inline SVG with a point for every epoch. All numbers
// stand in it a second time as JSON, unrounded, in the element
//
//	<script type="application/json" id="data">
//
// which is [Data] and runs nothing; what it has in common with report.json and
// metrics.jsonl is equal to them. Texts of the dataset are data: they are
// escaped wherever they stand.
package report
