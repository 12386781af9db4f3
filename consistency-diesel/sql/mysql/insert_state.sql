{state}
