final: _prev: {
  litefs-py = final.callPackage ./package.nix { };
}
