"""The stage `interfaces`: what people build on in a bundle."""
