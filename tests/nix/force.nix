# lib.mkForce, where there is no `lib` yet.
content: {
  _type = "override";
  priority = 50;
  inherit content;
}
