"""How images become clusters: neighbours, the pair objective, competing heads, distortions."""
