-- Reads the revocations with some names. `common.lua` runs before this.
--
-- ARGV[3...]  names
--
-- Returns the texts of those that are kept.

local found = {}
for i = 3, #ARGV do
  local text = redis.call('HGET', texts_key, ARGV[i])
  if text then
    found[#found + 1] = text
  end
end
return found
