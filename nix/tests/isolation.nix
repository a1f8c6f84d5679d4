# Two people, who can't reach each other.
{ one, ... }: one { }
