"""What a run is shown and shared by: a page with its Markdown twin, a card for the Hub, and the push."""
