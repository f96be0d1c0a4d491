"""What `auto` stands for: operators in float32 and a compression for each layer, found by building and measuring."""
