# Boot, sign in, and what a stranger gets.
{ one, ... }: one { }
